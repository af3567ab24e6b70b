"""One run of the stack as the project's tests will use it, and one of the example test."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elefast.cli._unreachable import exported
from elefast.cli.init.pytest_file import find_pytest_file

__all__ = ["Example", "Trial", "as_tests_import", "run_example", "try_stack"]


@dataclass(frozen=True)
class Trial:
    """What a run of the stack showed.

    Args:
        server: The server in words.
        reason: Why the provider chose this server.
        template: Why the template was built, or that there is one; empty if databases are empty.
        tables: How many tables a database has, except those of PostgreSQL itself.
        seconds: How long it took until a database answered.
        missing: Tables that the models declare, and that the database does not have.
    """

    server: str
    reason: str
    template: str
    tables: int
    seconds: float
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        tables = f"{self.tables} table{'' if self.tables == 1 else 's'}"
        return "\n".join(
            [
                f"server    {self.server} ({self.reason})",
                f"template  {self.template or 'none, databases are empty'}",
                f"database  {tables}, after {self.seconds:.1f} s; the next ones take milliseconds",
            ]
        )


def try_stack(root: Path, profile: str | None, tables: Collection[str] = ()) -> Trial:
    """Start what is configured in `root`, create a database, read which tables it has, and drop it.

    Args:
        root: The project's directory.
        profile: The profile in force.
        tables: Names of tables that the models declare.

    Raises:
        ElefastError: The project's tests would have the same error.
    """
    from sqlalchemy import text

    from elefast.factory import from_config

    start = time.perf_counter()
    with from_config(root, profile=profile) as stack, exported(stack.settings):
        with stack.server.create_database() as database, database.engine.connect() as connection:
            rows = connection.execute(
                text(
                    "SELECT c.relname, c.relkind IN ('r', 'p') FROM pg_class c "
                    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') "
                    "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
                )
            ).all()
        seconds = time.perf_counter() - start
        report = stack.report()
        template = report.template_reason if report.template else ""
        missing = tuple(sorted(set(tables) - {name for name, _ in rows}))
        count = sum(1 for _, is_table in rows if is_table)
        return Trial(report.server, report.reason, template, count, seconds, missing)


@contextmanager
def as_tests_import(root: Path) -> Generator[None]:
    """While this lasts, Python finds modules in the directories that pytest's configuration in `root` names."""
    before = list(sys.path)
    sys.path[:0] = [str(path) for path in find_pytest_file(root).pythonpath]
    try:
        yield
    finally:
        sys.path[:] = before


@dataclass(frozen=True)
class Example:
    """A run of the example test.

    Args:
        exit_status: Of pytest.
        output: What it printed.
        command: How it was started.
    """

    exit_status: int
    output: str
    command: str


def run_example(root: Path, example: Path) -> Example:
    """Run one test module as the command `pytest` does, or else as `python -m pytest`.

    The second one puts the working directory on the import path, which some projects and their plugins rely on.
    """
    name = str(example.relative_to(root))
    first = _run_pytest(root, ["-P", "-m", "pytest", "-q", name], "pytest")
    if first.exit_status == 0 or "ModuleNotFoundError" not in first.output:
        return first
    return _run_pytest(root, ["-m", "pytest", "-q", name], "python -m pytest")


def _run_pytest(root: Path, arguments: list[str], command: str) -> Example:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return Example(done.returncode, done.stdout, command)

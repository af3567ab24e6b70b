"""One run of the stack as the project's tests will use it, and what was seen on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elefast.cli.init.look import Look

__all__ = ["Trial", "run_example", "try_stack"]


@dataclass(frozen=True)
class Trial:
    """What was seen.

    Args:
        server: The server in words.
        reason: Why this one.
        template: Why the template was built, or that there is one; empty where databases are empty.
        tables: How many tables a database has, but for those of PostgreSQL itself.
        seconds: What it took until a database had answered.
    """

    server: str
    reason: str
    template: str
    tables: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
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


def try_stack(root: Path, profile: str | None) -> Trial:
    """Start what is configured in `root`, make a database, ask it something, and drop it.

    Raises:
        ElefastError: Whatever the project's tests would meet as well.
    """
    from sqlalchemy import text

    from elefast.factory import from_config

    start = time.perf_counter()
    with from_config(root, profile=profile) as stack:
        with stack.server.create_database() as database, database.engine.connect() as connection:
            count = connection.scalar(
                text(
                    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                    "WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
                )
            )
        seconds = time.perf_counter() - start
        report = stack.report()
        template = report.template_reason if report.template else ""
        return Trial(report.server, report.reason, template, int(count or 0), seconds)


@contextmanager
def _path(entries: list[str]) -> Generator[None]:
    before = list(sys.path)
    sys.path[:0] = entries
    try:
        yield
    finally:
        sys.path[:] = before


def as_tests_import(seen: Look) -> Any:
    """While this lasts, modules are found where pytest is told to look for them."""
    paths = seen.pytest_options.get("pythonpath", [])
    return _path([str(seen.root / path) for path in (paths.split() if isinstance(paths, str) else paths)])


def run_example(root: Path, example: Path) -> tuple[int, str]:
    """Run one test module with pytest, as the user will; its exit status and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(example.relative_to(root))],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout

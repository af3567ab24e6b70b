"""What grows: tables, databases in a run, workers, revisions; a longer command of its own."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg

from benchmarks import alembic_project
from benchmarks.items import Plan
from benchmarks.rounds import interleaved, median, quantile, say
from benchmarks.suites import SUITES, Project, Where

__all__ = ["growth"]


def growth(plan: Plan) -> list[dict[str, Any]]:
    """All four."""
    return [_tables(plan), _databases(plan), _workers(plan), _revisions(plan)]


def _tables(plan: Plan) -> dict[str, Any]:
    """What a test of 50 ms waits for, by the number of tables."""
    tests = plan.tests or 60
    sizes = (2, 4) if plan.quick else (10, 30, 100, 300, 1000)
    rows: list[dict[str, Any]] = []
    for size in sizes:
        projects = {name: Project(SUITES[name], plan.where, f"{name}_{size}") for name in ("none", "elefast")}
        for project in projects.values():
            project.run(2, tables=size)
        rounds = interleaved(
            {
                name: (lambda project=project, size=size: project.run(tests, tables=size, work="wait:50"))
                for name, project in projects.items()
            },
            plan.rounds,
            f"tests of 50 ms, {size} tables",
        )
        idle = median([wait for found in rounds for wait in found["none"].waits[1:]])
        waits = [wait - idle for found in rounds for wait in found["elefast"].waits[1:]]
        over = [(found["elefast"].wall - found["none"].wall) / tests * 1000 for found in rounds]
        rows.append(
            {
                "tables": size,
                "a test waits, p50 ms": quantile(waits, 0.5) * 1000,
                "p99 ms": quantile(waits, 0.99) * 1000,
                "overhead per test, ms": median(over),
            }
        )
    return _columns("growth_tables", f"{tests} tests that wait 50 ms, by the number of tables", rows)


def _databases(plan: Plan) -> dict[str, Any]:
    """Memory of the process, and databases on the server, by the number of databases handed out."""
    rows: list[dict[str, Any]] = []
    project = Project(SUITES["elefast"], plan.where, "elefast_databases")
    without = Project(SUITES["none"], plan.where, "none_databases")
    project.run(2)
    for tests in (3, 6) if plan.quick else (100, 300, 1000):
        with _most(plan.where) as most:
            run = project.run(tests)
        say(f"{tests} databases in a run took {run.wall:.0f} s")
        rows.append(
            {
                "databases": tests,
                "memory of the test process, MB": run.memory / 2**20,
                "without a database, MB": without.run(tests).memory / 2**20,
                "live at once, beyond those that were ready before": most[0],
                "per test, ms": run.wall / tests * 1000,
            }
        )
    return _columns("growth_databases", "databases in a run", rows)


def _workers(plan: Plan) -> dict[str, Any]:
    """How many tests a second come out of more workers; there are only so many processors."""
    tests = plan.tests or 400
    rows: list[dict[str, Any]] = []
    projects = {name: Project(SUITES[name], plan.where, f"{name}_workers") for name in ("none", "elefast")}
    for project in projects.values():
        project.run(2)
    for workers in (2,) if plan.quick else (1, 2, 4, 8):
        rounds = interleaved(
            {
                name: (lambda project=project, workers=workers: project.run(tests, "-n", str(workers)))
                for name, project in projects.items()
            },
            plan.rounds,
            f"{workers} workers",
        )
        wall = {name: median([found[name].wall for found in rounds]) for name in projects}
        rows.append(
            {
                "workers": workers,
                "whole run, s": wall["elefast"],
                "without a database, s": wall["none"],
                "overhead per test, ms": (wall["elefast"] - wall["none"]) / tests * 1000,
            }
        )
    return _columns("growth_workers", f"{tests} trivial tests, by the number of workers", rows)


def _revisions(plan: Plan) -> dict[str, Any]:
    """The run that migrates, and the ones after it, by the number of Alembic revisions."""
    rows: list[dict[str, Any]] = []
    for revisions in (2, 4) if plan.quick else (10, 100, 1000):
        project = Project(SUITES["elefast_alembic"], plan.where, f"elefast_alembic_{revisions}")
        alembic_project.write(project.path, revisions)
        first = project.run(1)
        second = [project.run(1).row for _ in range(1 if plan.quick else 5)]
        say(f"{revisions} revisions: first run {first.wall:.1f} s")
        rows.append(
            {
                "revisions": revisions,
                "first run, first row after, ms": first.row * 1000,
                "second run, first row after, ms": median(second) * 1000,
            }
        )
    return _columns("growth_revisions", "runs of one test, by the number of Alembic revisions", rows)


@contextmanager
def _most(where: Where) -> Generator[list[int]]:
    """How many databases there were at once, at most, beyond those before, as seen 100 times a second."""
    most = [0]
    done = threading.Event()

    def look() -> None:
        with psycopg.connect(where.url.replace("+psycopg", ""), autocommit=True) as connection:
            before = _count(connection)
            while not done.wait(0.01):
                most[0] = max(most[0], _count(connection) - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def _count(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(b"SELECT count(*) FROM pg_database WHERE NOT datistemplate").fetchone()
    return row[0] if row else 0


def _columns(key: str, title: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"key": key, "kind": "columns", "title": title, "columns": list(rows[0]), "rows": rows, "targets": []}

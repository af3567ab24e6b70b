"""What is measured, item by item; each gives plain values for JSON, tables and charts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import make_url

from benchmarks import alembic_project
from benchmarks.machine import database, wait_for_end
from benchmarks.rounds import interleaved, median, quantile, say
from benchmarks.suites import SUITES, Project, Run, Where

__all__ = ["ITEMS", "Plan"]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        where: Machine and server.
        suites: Names of those that can be run here.
        rounds: How often.
        tests: How many in a suite; 0 for the usual number.
        revisions: How many Alembic revisions the warm start has.
        user: Whom to run as where root will not do.
        quick: Only see whether it works.
    """

    where: Where
    suites: Sequence[str]
    rounds: int = 3
    tests: int = 0
    revisions: int = 100
    user: str = ""
    quick: bool = False

    def projects(self, *names: str) -> dict[str, Project]:
        """A directory for each suite that can be run here."""
        return {name: Project(SUITES[name], self.where) for name in names if name in self.suites}


PER_TEST = (
    "elefast",
    "elefast_local",
    "pgtestdbpy",
    "handmade_template",
    "handmade_migrate",
    "pytest_postgresql",
    "pytest_mock_resources",
)
SLOW = ("handmade_migrate", "pytest_mock_resources")
"""Measured alone only: they are never the next best, and take most of the time."""


def trivial(plan: Plan) -> list[dict[str, Any]]:
    """Tests that do next to nothing, alone and with two workers."""
    tests = plan.tests or 200
    tables: list[dict[str, Any]] = []
    with ExitStack() as there:
        for worker in ("main", "gw0", "gw1"):
            there.enter_context(database(plan.where.url, f"bench_rollback_{worker}"))
        projects = plan.projects("none", *PER_TEST, "rollback")
        _warm(projects, tests=2)
        for key, options, limit in (("trivial", (), 0.35), ("trivial_n2", ("-n", "2"), 0.55)):
            how = "with -n 2" if options else "alone"
            title = f"{tests} trivial tests, {how}"
            measured = {name: project for name, project in projects.items() if not options or name not in SLOW}
            rounds = interleaved(_variants(measured, tests, options), plan.rounds, title)
            table = _overheads(key, title, rounds, tests)
            table["targets"] = _against_next(table, "elefast", limit, how)
            tables.append(table)
    return tables


def work(plan: Plan) -> list[dict[str, Any]]:
    """Tests that wait or compute, so that there is time to make the next database meanwhile."""
    tests = plan.tests or 200
    projects = plan.projects(
        "none", "elefast", "pgtestdbpy", "handmade_template", "none_async", "elefast_async", "elefast_psycopg"
    )
    _warm(projects, tests=2)
    tables: list[dict[str, Any]] = []
    for kind in ("wait:5", "wait:20", "compute:5", "compute:20"):
        doing, _, amount = kind.partition(":")
        title = f"{tests} tests that {doing} {amount} ms"
        rounds = interleaved(_variants(projects, tests, work=kind), plan.rounds, title)
        table = _overheads(f"{doing}_{amount}", title, rounds, tests)
        if kind == "wait:20":
            table["targets"] += _against_next(table, "elefast", 0.20, "with 20 ms of waiting")
        waited = {row["suite"]: row for row in table["rows"]}
        for name, driver, p50, p99 in (
            ("elefast", "psycopg", 1.2, 6.0),
            ("elefast_psycopg", "async psycopg", 2.0, 8.0),
            ("elefast_async", "asyncpg", 6.0, 12.0),
        ):
            if name in waited:
                what = f"{driver}, a test that {doing}s {amount} ms waits for its database, ms"
                table["targets"] += [
                    _target(f"{what}, p50", waited[name]["wait_p50_ms"], p50),
                    _target(f"{what}, p99", waited[name]["wait_p99_ms"], p99),
                ]
        tables.append(table)
    return tables


def transaction(plan: Plan) -> list[dict[str, Any]]:
    """Transactions that are rolled back, against the recipe that one writes by hand."""
    tests = plan.tests or 200
    with database(plan.where.url, "bench_rollback_main"):
        projects = plan.projects("none", "rollback", "elefast_transaction")
        _warm(projects, tests=2)
        title = f"{tests} trivial tests in transactions"
        rounds = interleaved(_variants(projects, tests), plan.rounds, title)
    table = _overheads("transaction", title, rounds, tests)
    row = {row["suite"]: row for row in table["rows"]}
    if {"rollback", "elefast_transaction"} <= row.keys():
        ours, recipe = row["elefast_transaction"], row["rollback"]
        table["targets"] = [
            _target("wall clock, of the recipe's", ours["wall_s"] / recipe["wall_s"], 1.2),
            _target("overhead per test, of the recipe's", ours["overhead_ms"] / recipe["overhead_ms"], 1.2),
            _target("p50 of what a test waits for, of the recipe's", ours["wait_p50_ms"] / recipe["wait_p50_ms"], 1.2),
        ]
    return [table]


def role(plan: Plan) -> list[dict[str, Any]]:
    """Tests that connect as a role, against tests that connect as the server's user."""
    tests = plan.tests or 200
    projects = plan.projects("none", "elefast", "elefast_role")
    _warm(projects, tests=2)
    tables: list[dict[str, Any]] = []
    for key, work in (("role", ""), ("role_wait_20", "wait:20")):
        title = f"{tests} tests with a role, each {work or 'trivial'}"
        table = _overheads(key, title, interleaved(_variants(projects, tests, work=work), plan.rounds, title), tests)
        row = {row["suite"]: row for row in table["rows"]}
        if {"elefast", "elefast_role"} <= row.keys():
            ratio = row["elefast_role"]["wall_s"] / row["elefast"]["wall_s"]
            table["targets"] = [_target(f"wall clock with a role, of that without, {work or 'trivial'}", ratio, 1.1)]
        tables.append(table)
    return tables


def warm(plan: Plan) -> list[dict[str, Any]]:
    """A second run: nothing changed, so nothing is to be done."""
    with database(plan.where.url, "bench_migrated"):
        projects = plan.projects("create_engine", "elefast_alembic")
        for project in projects.values():
            alembic_project.write(project.path, plan.revisions)
        by_hand = projects["create_engine"]
        alembic_project.upgrade(by_hand.path, _database_url(plan.where.url, "bench_migrated"))
        variants: dict[str, Callable[[], Run]] = {
            name: (lambda project=project: project.run(3)) for name, project in projects.items()
        }
        if "elefast_alembic" in projects:
            own = {
                "ELEFAST_PROVIDER": "local",
                "ELEFAST_ENGINE__URL": "",
                "ELEFAST_LOCAL__BIN_DIR": plan.where.binaries,
            }
            variants["elefast_alembic_local"] = lambda: projects["elefast_alembic"].run(3, env=own)
        for variant in variants.values():
            variant()
        title = f"second run of 3 tests, {plan.revisions} Alembic revisions"
        rounds = interleaved(variants, 1 if plan.quick else plan.rounds * 3, title)
    table = _starts("warm", title, rounds)
    table["labels"] = {"elefast_alembic_local": "elefast, Alembic, its own server"}
    row = {row["suite"]: row for row in table["rows"]}
    if "elefast_alembic" in row:
        ours, theirs = row["elefast_alembic"], row["create_engine"]
        table["targets"] = [
            _target("first test's body, of a hand-written create_engine's", ours["body_ms"] / theirs["body_ms"], 1.3),
            _target("first test's first row, of the same", ours["row_ms"] / theirs["row_ms"], 1.3),
        ]
    return [table]


def cold(plan: Plan) -> list[dict[str, Any]]:
    """From nothing to the first row, on binaries of this machine; not as root, which pg_ctl refuses."""
    where = replace(plan.where, user=plan.user, work=plan.where.work / "cold", root=plan.where.work / "cold-root")
    where.work.mkdir(exist_ok=True)
    if os.geteuid() == 0 and not plan.user:
        say("no ordinary user can run this Python, so postgresql_proc is left out")
        plan = replace(plan, suites=[name for name in plan.suites if name != "pytest_postgresql_proc"])
    there = replace(plan, where=where).projects("none", "elefast_local", "pytest_postgresql_proc")
    variants: dict[str, Callable[[], Run]] = {
        name: (lambda project=project: project.run(1)) for name, project in there.items()
    }
    if "elefast_local" in there:
        variants["elefast_local"] = lambda: _fresh(there["elefast_local"], keep_cache=False)
        variants["elefast_cached"] = lambda: _fresh(there["elefast_local"], keep_cache=True)
    for variant in variants.values():
        variant()
    title = "cold start: from nothing to the first row"
    table = _starts("cold", title, interleaved(variants, plan.rounds, title))
    table["labels"] = {
        "elefast_local": "elefast, nothing there",
        "elefast_cached": "elefast, initdb of an earlier project",
    }
    shutil.rmtree(where.root, ignore_errors=True)
    row = {row["suite"]: row for row in table["rows"]}
    if "pytest_postgresql_proc" in row and "elefast_local" in row:
        peer = row["pytest_postgresql_proc"]["row_ms"]
        table["targets"] = [
            _target("first row, of postgresql_proc's, nothing there", row["elefast_local"]["row_ms"] / peer, 0.5),
            _target("first row, of postgresql_proc's, initdb there", row["elefast_cached"]["row_ms"] / peer, 0.5),
        ]
    return [table]


MARGINAL = ("elefast", "elefast_local", "elefast_seeded", "pgtestdbpy", "handmade_template", "rollback")


def marginal(plan: Plan) -> list[dict[str, Any]]:
    """What one more test costs: the difference between a long and a short run, without what starts and stops."""
    short, long = (2, 6) if plan.quick else (100, 500)
    tables: list[dict[str, Any]] = []
    with ExitStack() as there:
        for worker in ("main", "gw0", "gw1"):
            there.enter_context(database(plan.where.url, f"bench_rollback_{worker}"))
        projects = plan.projects("none", *MARGINAL)
        _warm(projects, tests=2)
        for key, options, limit in (("marginal", (), 0.13), ("marginal_n2", ("-n", "2"), 0.22)):
            how = "with -n 2" if options else "alone"
            title = f"one more trivial test, {how} ({long} tests less {short})"
            lengths = {
                f"{name} {tests}": (project, tests) for name, project in projects.items() for tests in (short, long)
            }
            variants = {
                name: (lambda project=project, tests=tests, options=options: project.run(tests, *options))
                for name, (project, tests) in lengths.items()
            }
            rounds = interleaved(variants, plan.rounds, title)
            table = _marginals(key, title, rounds, short, long)
            over = {row["suite"]: row["overhead_ms"] for row in table["rows"]}
            table["targets"] = _against_next(table, "elefast", limit, how)
            if not options and {"elefast", "rollback"} <= over.keys():
                what = "overhead of a private database, of the rollback recipe's"
                table["targets"].append(_target(what, over["elefast"] / over["rollback"], 1.5))
            if not options and {"elefast", "elefast_seeded"} <= over.keys():
                what = "overhead of a test that writes to a table with 100 rows, of one that writes to an empty table"
                table["targets"].append(_target(what, over["elefast_seeded"] / over["elefast"], 1.3))
            tables.append(table)
    return tables


def _marginals(key: str, title: str, rounds: list[dict[str, Run]], short: int, long: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(variant.rpartition(" ")[0] for variant in rounds[0]):

        def more(found: dict[str, Run], name: str) -> float:
            return (found[f"{name} {long}"].wall - found[f"{name} {short}"].wall) / (long - short) * 1000

        over = [more(found, name) - more(found, "none") for found in rounds]
        rows.append(
            {
                "suite": name,
                "isolation": SUITES[name].isolation,
                "wall_s": median([found[f"{name} {long}"].wall for found in rounds]),
                "overhead_ms": median(over),
                "overheads_ms": over,
                "wait_p50_ms": None,
                "wait_p99_ms": None,
            }
        )
    return {"key": key, "kind": "overhead", "title": title, "tests": long - short, "rows": rows, "targets": []}


ITEMS: dict[str, Callable[[Plan], list[dict[str, Any]]]] = {
    "1": trivial,
    "2": work,
    "3": transaction,
    "4": warm,
    "5": cold,
    "7": marginal,
    "8": role,
}


def _variants(
    projects: dict[str, Project], tests: int, options: Sequence[str] = (), work: str = ""
) -> dict[str, Callable[[], Run]]:
    return {
        name: (lambda project=project: project.run(tests, *options, work=work)) for name, project in projects.items()
    }


def _warm(projects: dict[str, Project], tests: int) -> None:
    """Once for all: byte code is written, and elefast has its template, as in any run but the first."""
    for project in projects.values():
        say(f"warming up {project.suite.label}")
        project.run(tests)


def _overheads(key: str, title: str, rounds: list[dict[str, Run]], tests: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name in rounds[0]:
        base = "none_async" if "asyncio" in SUITES[name].plugins else "none"
        runs = [found[name] for found in rounds]
        over = [(found[name].wall - found[base].wall) / tests * 1000 for found in rounds]
        # The first test pays for the start of everything, which item 4 is about.
        idle = median([wait for found in rounds for wait in found[base].waits[1:]])
        waits = [wait - idle for run in runs for wait in run.waits[1:]]
        rows.append(
            {
                "suite": name,
                "isolation": SUITES[name].isolation,
                "wall_s": median([run.wall for run in runs]),
                "overhead_ms": median(over),
                "overheads_ms": over,
                "wait_p50_ms": quantile(waits, 0.5) * 1000,
                "wait_p99_ms": quantile(waits, 0.99) * 1000,
            }
        )
    rows.sort(key=lambda row: row["overhead_ms"])
    return {"key": key, "kind": "overhead", "title": title, "tests": tests, "rows": rows, "targets": []}


def _starts(key: str, title: str, rounds: list[dict[str, Run]]) -> dict[str, Any]:
    rows = [
        {
            "suite": name,
            "wall_s": median([found[name].wall for found in rounds]),
            "body_ms": median([found[name].body * 1000 for found in rounds]),
            "row_ms": median([found[name].row * 1000 for found in rounds]),
            "rows_ms": [found[name].row * 1000 for found in rounds],
        }
        for name in rounds[0]
    ]
    rows.sort(key=lambda row: row["wall_s"])
    return {"key": key, "kind": "start", "title": title, "rows": rows, "targets": []}


def _against_next(table: dict[str, Any], ours: str, limit: float, how: str) -> list[dict[str, Any]]:
    """The overhead of `ours` against the best of the others that give a database for each test."""
    over = {row["suite"]: row["overhead_ms"] for row in table["rows"] if row["isolation"] == "database"}
    others = {name: value for name, value in over.items() if not name.startswith("elefast")}
    if ours not in over or not others:
        return []
    best = min(others, key=lambda name: others[name])
    return [_target(f"overhead {how}, of the next best ({SUITES[best].label})", over[ours] / others[best], limit)]


def _fresh(project: Project, *, keep_cache: bool) -> Run:
    """One run where there is nothing, or nothing but what ``initdb`` made for somebody else."""
    root = project.where.root
    shutil.rmtree(root / "memory" if keep_cache else root, ignore_errors=True)
    root.mkdir(exist_ok=True)
    if project.where.user:
        shutil.chown(root, project.where.user)
    found = project.run(1)
    wait_for_end(root)
    return found


def _target(text: str, value: float, limit: float) -> dict[str, Any]:
    return {"text": text, "value": value, "limit": limit, "met": value <= limit}


def _database_url(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)

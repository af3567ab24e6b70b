"""The kinds of kill: whom, by what, and where there is such a victim."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from signal import SIGKILL, SIGQUIT, SIGTERM, Signals

from tests.robustness.crashes.places import Place
from tests.robustness.crashes.processes import Process, send
from tests.robustness.crashes.project import ISOLATIONS, MIGRATORS
from tests.robustness.crashes.runs import Run

__all__ = ["KILLS", "Kill"]

URL, LOCAL = "url", "local"
Find = Callable[[Run, Place], Sequence[int]]


@dataclass(frozen=True)
class Kill:
    """A kind of kill.

    Args:
        name: For the test's name.
        what: The fault, for the table of faults.
        how: How it is made, for the same.
        find: The processes of which one is a victim; none where there are none at this moment.
        signals: One of them is sent; none for sessions, which the server is asked to end.
        all_at_once: Whether all of them are victims.
        fleeting: Whether there is a victim for a part of the run only, so that it is waited for.
        places: Where there are such victims.
        workers: Whether there are only with pytest-xdist.
        migrators: With which of them there are.
        isolations: And with which of these.
        builds: Whether there are only while a template is built.
        cached: Whether there are only where ``initdb`` has nothing to copy; as `LocalPlace` has it.
    """

    name: str
    what: str
    how: str
    find: Find
    signals: tuple[Signals, ...] = ()
    all_at_once: bool = False
    fleeting: bool = False
    places: tuple[str, ...] = (URL, LOCAL)
    workers: bool | None = None
    migrators: tuple[str, ...] = MIGRATORS
    isolations: tuple[str, ...] = ISOLATIONS
    builds: bool = False
    cached: bool | None = None

    def strike(self, run: Run, place: Place, chance: random.Random) -> str:
        """Kill; who was, in words, and empty where there was nobody."""
        found = self.find(run, place)
        victims = found if self.all_at_once else [chance.choice(found)] if found else []
        if not self.signals:
            query = "select pg_terminate_backend(pid) from pg_stat_activity where pid = {}"
            return "pg_terminate_backend" if any(place.ask(query.format(pid)) for pid in victims) else ""
        number = chance.choice(self.signals)
        sent = [send(pid, number) for pid in victims]
        return number.name if any(sent) else ""


def _processes(is_victim: Callable[[Process], bool]) -> Find:
    return lambda run, place: [process.pid for process in run.family() if is_victim(process)]


def _pytest(run: Run, place: Place) -> Sequence[int]:
    return [] if run.ended else [run.process.pid]


def _group(run: Run, place: Place) -> Sequence[int]:
    return [] if run.ended else [-run.process.pid]


def _everything(run: Run, place: Place) -> Sequence[int]:
    return [] if run.ended else [process.pid for process in run.family()]


def _postmaster(run: Run, place: Place) -> Sequence[int]:
    pid = place.postmaster()
    return [pid] if pid and not run.ended else []


def _sessions(condition: str) -> Find:
    query = f"select pid from pg_stat_activity where {condition}"
    return lambda run, place: [pid for (pid,) in place.ask(query)]


def _on(kind: str) -> str:
    return f"datname ~ '^elefast_(shared_)?{kind}[0-9a-v]{{12}}_' and datname not like '%_00000000'"


BOTH = (SIGKILL, SIGTERM)
BY_BOTH = "SIGKILL or SIGTERM at a random moment"

KILLS = [
    Kill("pytest", "pytest killed", BY_BOTH, _pytest, BOTH),
    Kill(
        "worker",
        "a worker of pytest-xdist killed",
        f"{BY_BOTH}, to one of two",
        _processes(lambda process: process.is_worker),
        BOTH,
        workers=True,
    ),
    Kill("group", "a CI job cancelled", f"{BY_BOTH}, to pytest and all that it started", _group, BOTH),
    Kill(
        "runner",
        "the process that migrates killed",
        f"{BY_BOTH}, to the interpreter that builds the template",
        _processes(lambda process: process.is_runner),
        BOTH,
        fleeting=True,
        migrators=("alembic",),
        builds=True,
    ),
    Kill(
        "run-session",
        "the session of a run ended",
        "pg_terminate_backend at a random moment",
        _sessions("application_name like 'elefast run %'"),
    ),
    Kill(
        "pool-session",
        "the session of a thread of the pool ended",
        "pg_terminate_backend at a random moment",
        _sessions("application_name like 'elefast pool %'"),
        fleeting=True,
        isolations=("database",),
    ),
    Kill(
        "draft-session",
        "the session of a migration ended",
        "pg_terminate_backend at a random moment",
        _sessions(_on("b")),
        fleeting=True,
        builds=True,
    ),
    Kill(
        "test-session",
        "the session of a test ended",
        "pg_terminate_backend at a random moment",
        _sessions(_on("d")),
        fleeting=True,
    ),
    Kill(
        "backend",
        "a backend killed, so that the server recovers",
        "SIGKILL at a random moment, to a backend of elefast's",
        _sessions("application_name like 'elefast %'"),
        (SIGKILL,),
    ),
    Kill(
        "server",
        "the server shut down at once",
        "SIGQUIT at a random moment; whoever keeps the server starts it again",
        _postmaster,
        (SIGQUIT,),
    ),
    Kill(
        "postmaster",
        "the postmaster of a local server killed",
        "SIGKILL at a random moment",
        _postmaster,
        (SIGKILL,),
        places=(LOCAL,),
    ),
    Kill(
        "supervisor",
        "the supervisor of a local server killed",
        BY_BOTH,
        _processes(lambda process: process.is_supervisor),
        BOTH,
        places=(LOCAL,),
    ),
    Kill(
        "initdb",
        "initdb killed",
        f"{BY_BOTH} while the data directory is made",
        _processes(lambda process: process.is_initdb),
        BOTH,
        fleeting=True,
        places=(LOCAL,),
        cached=False,
    ),
    Kill(
        "everything",
        "everything of a run and of its server killed",
        "SIGKILL at a random moment, to pytest, its workers, the supervisor and the server",
        _everything,
        (SIGKILL,),
        all_at_once=True,
        places=(LOCAL,),
    ),
]

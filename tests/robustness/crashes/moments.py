"""When to strike: after some time, or when something of interest is seen on the server, in its directories or inside.

What is seen from outside is seen a little late, which random delays make use of; what happens inside of a process,
between two statements, is met exactly, because the process waits there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.robustness.crashes.kills import Kill
from tests.robustness.crashes.places import Place
from tests.robustness.crashes.project import Variant
from tests.robustness.crashes.runs import Run

__all__ = ["Moment"]

_OURS = r"'^elefast_(shared_)?{}[0-9a-v]{{12}}_[0-9a-v]+_[0-9a-v]{{8}}$'"
_SESSION = "select 1 from pg_stat_activity where {}"
_DATABASE = "select 1 from pg_database where datname not like '%_00000000' and datname ~ {}"

SEEN: Mapping[str, str] = {
    "a run is there": _SESSION.format("application_name like 'elefast run %'"),
    "the pool is there": _SESSION.format("application_name like 'elefast pool %'"),
    "somebody waits for a lock": _SESSION.format("wait_event_type = 'Lock' and application_name like 'elefast %'"),
    "a draft is made": _DATABASE.format(_OURS.format("b")),
    "a migration is at work": _SESSION.format(f"datname ~ {_OURS.format('b')}"),
    "a draft is sealed": _DATABASE.format(_OURS.format("b")) + " and datistemplate",
    "a template is published": _DATABASE.format(_OURS.format("[tv]")),
    "a database is copied": _SESSION.format("query like 'CREATE DATABASE%' and state = 'active'"),
    "a test has a database": _DATABASE.format(_OURS.format("d")),
    "a test is connected": _SESSION.format(f"datname ~ {_OURS.format('d')}"),
    "a database is dropped": _SESSION.format("query like 'DROP DATABASE%' and state = 'active'"),
    "a database is altered": _SESSION.format("query like 'ALTER DATABASE%' and state = 'active'"),
    "a database is left for the next run": _DATABASE.format(_OURS.format("r")),
}
"""On the server, by queries that have rows when it is so."""

FILES: Mapping[str, str] = {
    "a supervisor is there": "memory/*/keeper",
    "a data directory is made": "*/*/building-*",
    "a data directory is complete": "*/*/cluster/data",
    "a named directory is used": "named/*",
    "the server starts": "memory/*/cluster/data/postmaster.pid",
    "the supervisor says something": "memory/*/state.json",
    "a copy is put aside": "disk/building-*",
    "a directory is removed": "memory/trash-*",
}
"""In the directory of a local server, when it is new or other than before."""


@dataclass
class Moment:
    """A moment of a run.

    Args:
        what: In words.
        seconds: After so many of them; or
        condition: when this is so; or
        query: when this has rows; or
        pattern: when a file of such a name is there; or
        statement: at this statement of a process, as the project's ``conftest.py`` understands it.
        delay: Seconds more.
    """

    what: str
    seconds: float = 0.0
    condition: Callable[[Run, Place], object] | None = None
    query: str = ""
    pattern: str = ""
    statement: str = ""
    delay: float = 0.0
    mark: Path = field(default_factory=Path)
    _before: set[tuple[Path, int]] = field(default_factory=set[tuple[Path, int]])

    @classmethod
    def of(cls, kill: Kill, chance: random.Random) -> Moment:
        """One at which there is a victim for `kill`."""
        delay = chance.choice([0.0, chance.uniform(0, 0.02), chance.uniform(0, 0.15)])
        return cls("as soon as it was there", condition=kill.find, delay=delay)

    @classmethod
    def draw(cls, chance: random.Random, variant: Variant, *, local: bool, duration: float, mark: Path) -> Moment:
        """One by chance, in a run that takes about `duration` seconds; `mark` is a file by which processes tell."""
        delay = _delay(chance)
        kinds = ["time", "seen", "seen", "statement", "statement", *(["file", "file"] if local else [])]
        match chance.choice(kinds):
            case "time":
                seconds = chance.uniform(0, duration)
                return cls(f"after {seconds:.2f} s", seconds=seconds)
            case "seen":
                what, query = chance.choice(list(SEEN.items()))
                return cls(what, query=query, delay=delay)
            case "file":
                what, pattern = chance.choice(list(FILES.items()))
                return cls(what, pattern=pattern, delay=delay)
            case _:
                # Rare ones are at the beginning and at the end; between them are those of the tests.
                since, most = chance.choice([("start", 30), ("start", 60), ("start", 120), ("end", 25)])
                process = f"gw{chance.randrange(variant.workers)}" if variant.workers else "alone"
                statement = f"{process} {chance.randint(1, most)} {chance.choice(['before', 'after'])} {since}"
                return cls(f"statement {statement}", statement=statement, mark=mark)

    @property
    def env(self) -> dict[str, str]:
        """The variables for a run that has this moment."""
        return {"CRASH_AT": self.statement, "CRASH_MARK": str(self.mark)} if self.statement else {}

    def come(self, run: Run, place: Place) -> bool:
        """Wait for it; whether it came before the run ended."""
        if self.pattern and place.directory is not None:
            self._before = _stamped(place.directory, self.pattern)
        while not self._is_now(run, place):
            if run.ended:
                return False
            time.sleep(0.002)
        if self.mark.is_file():
            self.what = f"{self.what}: {self.mark.read_text()}"
        time.sleep(self.delay)
        return True

    def go_on(self) -> None:
        """Let a process that waits there go on."""
        if self.statement:
            self.mark.unlink(missing_ok=True)

    def _is_now(self, run: Run, place: Place) -> bool:
        if self.condition is not None:
            return bool(self.condition(run, place))
        if self.query:
            return bool(place.ask(self.query))
        if self.pattern:
            assert place.directory is not None
            return bool(_stamped(place.directory, self.pattern) - self._before)
        if self.statement:
            return self.mark.exists()
        return time.monotonic() - run.began >= self.seconds


def _delay(chance: random.Random) -> float:
    return chance.choice([0.0, 0.0, chance.uniform(0, 0.01), chance.uniform(0, 0.3)])


def _stamped(directory: Path, pattern: str) -> set[tuple[Path, int]]:
    found: set[tuple[Path, int]] = set()
    for path in directory.glob(pattern):
        with suppress(OSError):
            found.add((path, path.lstat().st_mtime_ns))
    return found

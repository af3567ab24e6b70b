"""Who changed what all databases share: the tests of a run, against what there was before the first of them.

It looks between tests, and names those that were at it since it looked last. What is as before at the end, such as
a role that a test drops again, is nobody's leak. It knows no pytest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from elefast.databases.report import Leak
from elefast.runtime import clock

__all__ = ["ClusterChanges", "ClusterLeakDetector", "Suspicion", "leaks_of"]

_NAMED = 4
"""So many tests are named for one thing; more of them at once would help nobody."""

_IN_NO_TRANSACTION = "replication slot"
"""What a test leaves although all that it did was rolled back."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Who may have changed one thing.

    Args:
        before: What it was before the first test; None where there was no such thing.
        since: When it was last seen to be as before, in seconds since the epoch.
        until: When it was first seen to be other.
        tests: Who was at it in between, with the times of their beginning and end.
    """

    before: str | None
    since: float
    until: float
    tests: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class ClusterChanges:
    """What one process saw, in plain values, to be put together with what others of the same run saw.

    Args:
        at: When it looked last, in seconds since the epoch.
        now: What there was then.
        changed: The things that are other than before its first test.
    """

    at: float
    now: dict[str, str]
    changed: dict[str, Suspicion] = field(default_factory=dict[str, Suspicion])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave."""
        changed = {thing: Suspicion(**item) for thing, item in values["changed"].items()}
        return cls(values["at"], values["now"], changed)


class ClusterLeakDetector:
    """What the tests of one process did to what all databases of the server share; safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._running: dict[str, float] = {}
        """Tests and when they began."""
        self._ended: dict[str, tuple[float, float]] = {}
        """Those that have ended since the last look."""
        self._undone: dict[str, tuple[float, float]] = {}
        """Those of which all was rolled back that can be."""
        self._before: dict[str, str] | None = None
        self._found = ClusterChanges(0, {})

    def began(self, test: str) -> None:
        """A test got a database."""
        with self._lock:
            self._running[test] = clock.wall()

    def ended(self, test: str, *, undone: bool = False) -> None:
        """It gave the database back.

        Args:
            test: As `began` was told.
            undone: All that it did was rolled back, so only what no transaction undoes may be its doing.
        """
        with self._lock:
            began = self._running.pop(test, None)
            if began is not None:
                (self._undone if undone else self._ended)[test] = (began, clock.wall())

    def look(self, look: Callable[[], Mapping[str, str]]) -> None:
        """Compare what `look` gives with what there was before; the first time, that is what there was before."""
        with self._looking:
            start = clock.wall()
            now = dict(look())
            end = clock.wall()
            with self._lock:
                tests, self._ended = self._ended, {}
                undone, self._undone = self._undone, {}
                tests |= {test: (began, end) for test, began in self._running.items()}
                if self._before is None:
                    self._before = now
                changed = {
                    thing: self._found.changed.get(thing)
                    or Suspicion(
                        self._before.get(thing),
                        self._found.at,
                        end,
                        tests | undone if thing.startswith(_IN_NO_TRANSACTION) else tests,
                    )
                    for thing in self._before.keys() | now.keys()
                    if self._before.get(thing) != now.get(thing)
                }
                self._found = ClusterChanges(start, now, changed)

    def findings(self) -> ClusterChanges | None:
        """What was seen so far; None before the first look."""
        with self._lock:
            return None if self._before is None else self._found


def leaks_of(findings: Iterable[ClusterChanges]) -> list[Leak]:
    """What the tests of one run left behind for all databases, from what its processes saw.

    What somebody saw and whoever looked last did not was there for a while, and is no leak.
    """
    found = sorted(findings, key=lambda item: item.at)
    leaks: list[Leak] = []
    for thing in sorted({thing for item in found for thing in item.changed}):
        suspicions = [item.changed[thing] for item in found if thing in item.changed]
        before, now = suspicions[0].before, found[-1].now.get(thing)
        if before != now:
            change = "is new" if before is None else "is gone" if now is None else "is other than before"
            text = "changed what all databases of the server share"
            leaks.append(Leak(_names(suspicions), f"{thing} {change}", text))
    return leaks


def _names(suspicions: Sequence[Suspicion]) -> str:
    """The tests that may have done it, in the order in which they began.

    Each process knows its own tests, and all of them together know best when it happened.
    """
    tests = {name: times for item in suspicions for name, times in item.tests.items()}
    since, until = max(item.since for item in suspicions), min(item.until for item in suspicions)
    overlapping = {name for name, (began, ended) in tests.items() if began <= until and ended >= since}
    names = sorted(overlapping or tests, key=lambda name: tests[name])
    more = f" or one of {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return (" or ".join(names[:_NAMED]) or "something") + more

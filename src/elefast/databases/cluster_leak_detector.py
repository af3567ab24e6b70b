"""Finds the tests that changed what all databases of a server share, such as roles and settings.

The service compares snapshots between tests. A difference from the first snapshot is attributed to the tests that ran
since the snapshot before. What is as before at the end, such as a role that a test drops again, is no leak.
It must not know pytest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from elefast.databases.report import Leak
from elefast.runtime import clock

__all__ = ["ClusterChange", "ClusterChanges", "ClusterLeakDetector", "cluster_leaks"]

_NAMED = 4
"""How many tests are named for one change; a longer list would not help."""

_NOT_TRANSACTIONAL = "replication slot"
"""The kind of object that a rollback does not remove."""


@dataclass(frozen=True, slots=True)
class ClusterChange:
    """A change of one object, and the tests that may have made it.

    Args:
        before: Its state before the first test; None where it did not exist.
        since: When the object was last seen unchanged, in seconds since the epoch.
        until: When it was first seen changed.
        tests: The tests that ran in between, with the times of their beginning and end.
    """

    before: str | None
    since: float
    until: float
    tests: dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class ClusterChanges:
    """The changes that one process saw, in plain values, to be merged with those of other processes of the run.

    Args:
        at: When it took the last snapshot, in seconds since the epoch.
        now: The last snapshot.
        changed: The objects that differ from the snapshot before its first test.
    """

    at: float
    now: dict[str, str]
    changed: dict[str, ClusterChange] = field(default_factory=dict[str, ClusterChange])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From the result of `to_dict`."""
        changed = {thing: ClusterChange(**item) for thing, item in values["changed"].items()}
        return cls(values["at"], values["now"], changed)


class ClusterLeakDetector:
    """Compares snapshots of the objects that all databases share, between tests of one process; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._comparing = threading.Lock()
        self._running: dict[str, float] = {}
        """The running tests and when they began."""
        self._ended: dict[str, tuple[float, float]] = {}
        """The tests that have ended since the last snapshot."""
        self._rolled_back: dict[str, tuple[float, float]] = {}
        """The tests that have ended since then and whose transaction was rolled back."""
        self._before: dict[str, str] | None = None
        self._found = ClusterChanges(0, {})

    def began(self, test: str) -> None:
        """Note that `test` has a database from now on."""
        with self._lock:
            self._running[test] = clock.wall()

    def ended(self, test: str, *, rolled_back: bool = False) -> None:
        """Note that `test` has released its database.

        Args:
            test: The node id of the test, as for `began`.
            rolled_back: Its transaction was rolled back, so it can have changed only what is not transactional.
        """
        with self._lock:
            began = self._running.pop(test, None)
            if began is not None:
                (self._rolled_back if rolled_back else self._ended)[test] = (began, clock.wall())

    def compare(self, take_snapshot: Callable[[], Mapping[str, str]]) -> None:
        """Take a snapshot and compare it with the first one, which the first call takes."""
        with self._comparing:
            with self._lock:
                tests, self._ended = self._ended, {}
                rolled_back, self._rolled_back = self._rolled_back, {}
            start = clock.wall()
            now = dict(take_snapshot())
            end = clock.wall()
            with self._lock:
                # A test that ended meanwhile may have changed something before the snapshot or after it, so the next
                # comparison considers it again.
                tests |= self._ended
                rolled_back |= self._rolled_back
                tests |= {test: (began, end) for test, began in self._running.items()}
                if self._before is None:
                    self._before = now
                changed = {
                    thing: self._found.changed.get(thing)
                    or ClusterChange(
                        self._before.get(thing),
                        self._found.at,
                        end,
                        tests | rolled_back if thing.startswith(_NOT_TRANSACTIONAL) else tests,
                    )
                    for thing in self._before.keys() | now.keys()
                    if self._before.get(thing) != now.get(thing)
                }
                self._found = ClusterChanges(start, now, changed)

    def changes(self) -> ClusterChanges | None:
        """The changes so far; None before the first snapshot."""
        with self._lock:
            return None if self._before is None else self._found


def cluster_leaks(changes: Iterable[ClusterChanges]) -> list[Leak]:
    """The leaks of a run, from the changes that its processes saw.

    A change that the last snapshot of all does not show was temporary, and is no leak.
    """
    found = sorted(changes, key=lambda item: item.at)
    leaks: list[Leak] = []
    for thing in sorted({thing for item in found for thing in item.changed}):
        seen = [item.changed[thing] for item in found if thing in item.changed]
        before, now = seen[0].before, found[-1].now.get(thing)
        if before != now:
            change = "is new" if before is None else "is gone" if now is None else "is other than before"
            text = "changed what all databases of the server share"
            leaks.append(Leak(_names(seen), f"{thing} {change}", text))
    return leaks


def _names(seen: Sequence[ClusterChange]) -> str:
    """The tests that may have made the change, in the order in which they began.

    Each process knows its own tests. All processes together narrow down the time of the change.
    """
    tests = {name: times for item in seen for name, times in item.tests.items()}
    since, until = max(item.since for item in seen), min(item.until for item in seen)
    overlapping = {name for name, (began, ended) in tests.items() if began <= until and ended >= since}
    names = sorted(overlapping or tests, key=lambda name: tests[name])
    more = f" or one of {len(names) - _NAMED} others" if len(names) > _NAMED else ""
    return (" or ".join(names[:_NAMED]) or "something") + more

"""Decides when the pool's threads work: at once, or a moment later, when a test that has just begun is connected."""

from __future__ import annotations

from collections.abc import Callable

from elefast.runtime import clock

__all__ = ["PoolScheduler"]

_START = 0.006
"""Seconds in which a test that has just begun connects and asks its first questions, on two cores of a server."""
_MARGIN = 1.2
"""By what factor the interval between tests must exceed the work for one database, so that no test waits for it."""


class PoolScheduler:
    """The times of one pool, used under the pool's lock.

    On few cores, work in the background makes a test wait for the processor and for the interpreter's lock. Where tests
    come slowly, the work is better done a moment later, when the test has connected.

    Args:
        now: Gives the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = clock.now) -> None:
        self._now = now
        self.making = 0.0
        """Seconds that the last creation of a database took."""
        self.resetting = 0.0
        """Seconds that the last reset took."""
        self.recycling = 0.0
        """Seconds that the last recycling of a database took, whether it was reset or dropped."""
        self._begun: list[float] = []
        self._asked = self._last = 0.0
        """When a database was last asked for, and when one was last asked for or released."""
        self._intervals = 0.0, 0.0
        """Seconds between the last three requests."""

    def ask(self) -> None:
        """Note that a test asks for a database."""
        now = self._now()
        self._intervals = self._intervals[1], now - (self._asked or now)
        self._asked = self._last = now

    def release(self) -> None:
        """Note that a test releases its database."""
        self._last = self._now()

    def begin(self) -> float:
        """Note that the recycling of a database begins; the time, for `end`."""
        now = self._now()
        self._begun.append(now)
        return now

    def end(self, begun: float, *, was_reset: bool) -> None:
        """Note that the recycling that began at `begun` is over."""
        self._begun.remove(begun)
        self.recycling = self._now() - begun
        if was_reset:
            self.resetting = self.recycling

    @property
    def under_way(self) -> int:
        """How many databases are being recycled at this moment."""
        return len(self._begun)

    def until_made(self, asked: float) -> float:
        """Seconds until a database that was asked for at `asked` would have been made."""
        return asked + self.making - self._now()

    def until_reset(self) -> float:
        """Seconds until the next reset is likely to end, where that is less than half of what a reset takes; else 0."""
        left = min(self._begun) + self.resetting - self._now() if self._begun else 0.0
        return left if left < self.resetting / 2 else 0.0

    def rest(self, work: float) -> float:
        """Seconds for which work should wait, because a test begins or is about to; 0 where tests come quickly.

        Args:
            work: How many seconds there are to be done for each test.
        """
        if min(self._intervals) < _START + _MARGIN * work:
            return 0.0
        return self._last + _START - self._now()

"""How often databases are asked for and how long they take, and who had better wait for whom."""

from __future__ import annotations

from collections.abc import Callable

from elefast.runtime import clock

__all__ = ["Pace"]

_START = 0.006
"""Seconds in which a test that has just begun connects and asks its first questions, on two cores of a server."""
_SPARE = 1.2
"""How much longer than that and the work for one database an interval must be, for the work to be late for nobody."""


class Pace:
    """The times of one pool. All of it is to be used under the pool's lock.

    On few cores, what is done behind a test makes the next one wait: for the processor, and for the interpreter.
    Where tests come in no hurry, it is better done a moment later, when they do their own work.

    Args:
        now: The time in seconds.
    """

    def __init__(self, now: Callable[[], float] = clock.now) -> None:
        self._now = now
        self.making = 0.0
        """Seconds that the last database took to be made."""
        self.returning = 0.0
        """Seconds that the last one that came back took for that."""
        self.seeing = 0.0
        """Seconds that the last one took that a test had, whether it was put back or dropped."""
        self._begun: list[float] = []
        self._asked = self._last = 0.0
        """When a database was asked for, and when the last thing of all happened."""
        self._intervals = 0.0, 0.0
        """Seconds between the last three that were asked for."""

    def ask(self) -> None:
        """A database is asked for."""
        now = self._now()
        self._intervals = self._intervals[1], now - (self._asked or now)
        self._asked = self._last = now

    def give_back(self) -> None:
        """A database is given back."""
        self._last = self._now()

    def begin(self) -> float:
        """Begin to see to a database that a test had; the time that `end` asks for."""
        now = self._now()
        self._begun.append(now)
        return now

    def end(self, begun: float, *, back: bool) -> None:
        """It was seen to, and is back or is gone."""
        self._begun.remove(begun)
        self.seeing = self._now() - begun
        if back:
            self.returning = self.seeing

    @property
    def under_way(self) -> int:
        """How many are being seen to at this moment."""
        return len(self._begun)

    def until_new(self, asked: float) -> float:
        """Seconds until a database that was asked for at `asked` would have been made."""
        return asked + self.making - self._now()

    def until_back(self) -> float:
        """Seconds until the next one is likely to be back, where that is less than half of what it takes; or 0."""
        left = min(self._begun) + self.returning - self._now() if self._begun else 0.0
        return left if left < self.returning / 2 else 0.0

    def rest(self, work: float) -> float:
        """Seconds for which work had better wait, as a test begins or is about to; none where tests are in a hurry.

        Args:
            work: How many seconds there are to be done for each test.
        """
        if min(self._intervals) < _START + _SPARE * work:
            return 0.0
        return self._last + _START - self._now()

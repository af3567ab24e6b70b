"""The time that really passes, whatever a test does to Python's.

freezegun puts functions of its own in place of those of `time`, wherever a module has them, but not where they are a
default; time-machine changes `time.time` and `time.monotonic` themselves, but not `time.perf_counter`. Where a clock
stands still, whoever waits until a deadline waits for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["now", "wall"]


def now(counter: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that have passed since nobody knows when; only differences mean anything, and only in one process."""
    return counter()


def wall(clock: Callable[[], float] = time.time) -> float:
    """Seconds since 1970, to be compared with those of other processes; with time-machine, what a test says it is."""
    return clock()

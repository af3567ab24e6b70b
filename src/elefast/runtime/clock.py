"""Clocks that go on while a test stops or moves the time.

With a stopped clock, elefast would wait for ever until a deadline. freezegun replaces the functions of `time` in all
modules, but not in default arguments. time-machine changes `time.time` and `time.monotonic` themselves, but not
`time.perf_counter`. Therefore both functions here keep their clock in a default argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["now", "wall"]


def now(counter: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a monotonic clock. Only differences between two values in one process have a meaning."""
    return counter()


def wall(clock: Callable[[], float] = time.time) -> float:
    """Seconds since 1970, for comparison with other processes. time-machine does change this clock."""
    return clock()

"""A histogram of durations, which uses little memory; histograms of several processes add up exactly."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, Self

from elefast.runtime.process_lifetime import on_fork

__all__ = ["Histogram"]

_PER_DOUBLING = 16
_SMALLEST = 1e-6
_LARGEST = 1e5

# Tests may run in several threads, and the pool has threads as well. One lock is enough, because it is held briefly.
_lock = threading.Lock()


@on_fork
def _after_fork() -> None:
    """A thread of the parent, which the child does not have, may have held the lock during the fork."""
    global _lock
    _lock = threading.Lock()


class Histogram:
    """Durations in buckets that are 4 % wide, from a microsecond to a day: a few hundred integers at most."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.seconds = 0.0
        """The exact sum of the durations."""
        self.longest = 0.0
        """The exact longest duration."""

    def add(self, seconds: float) -> None:
        """Add one duration, in seconds; safe from any thread."""
        bucket = round(math.log2(min(max(seconds, _SMALLEST), _LARGEST)) * _PER_DOUBLING)
        with _lock:
            self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
            self.seconds += seconds
            self.longest = max(self.longest, seconds)

    def __len__(self) -> int:
        with _lock:
            return sum(self._buckets.values())

    def quantile(self, share: float) -> float:
        """The duration in seconds that a share of the durations do not exceed, to 2 %; 0 where there is none.

        Args:
            share: The share, from 0 to 1, such as 0.99.
        """
        with _lock:
            left = math.ceil(share * sum(self._buckets.values()))
            for bucket in sorted(self._buckets):
                left -= self._buckets[bucket]
                if left <= 0:
                    return min(2 ** (bucket / _PER_DOUBLING), self.longest)
        return 0.0

    def __add__(self, other: Histogram) -> Histogram:
        """A histogram with the durations of both."""
        both = Histogram()
        with _lock:
            for part in (self, other):
                for bucket, count in part._buckets.items():
                    both._buckets[bucket] = both._buckets.get(bucket, 0) + count
            both.seconds = self.seconds + other.seconds
            both.longest = max(self.longest, other.longest)
        return both

    def to_dict(self) -> dict[str, Any]:
        """As plain values; `p50` and `p99` are for readers only."""
        with _lock:
            buckets = [[bucket, count] for bucket, count in sorted(self._buckets.items())]
        return {
            "count": sum(count for _, count in buckets),
            "seconds": self.seconds,
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "longest": self.longest,
            "buckets": buckets,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From the result of `to_dict`."""
        made = cls()
        made._buckets = dict(values["buckets"])
        made.seconds, made.longest = values["seconds"], values["longest"]
        return made

    def __repr__(self) -> str:
        p50, p99 = self.quantile(0.5) * 1000, self.quantile(0.99) * 1000
        return f"<{len(self)} samples: p50 {p50:.2f} ms, p99 {p99:.2f} ms>"

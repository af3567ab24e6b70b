"""Many durations in little memory: a histogram whose parts from several processes add up exactly."""

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

# Tests may run in several threads, and the pool adds from its own. One lock for all, since it is held so briefly.
_lock = threading.Lock()


@on_fork
def _after_fork() -> None:
    """Somebody may have held it at that moment, in a thread that the child does not have."""
    global _lock
    _lock = threading.Lock()


class Histogram:
    """Durations in buckets that are 4 % wide, from a microsecond to a day: some hundred integers at most."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.seconds = 0.0
        """Their sum, exactly."""
        self.longest = 0.0
        """The longest, exactly."""

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
        """The duration in seconds that `share` of them do not exceed, to 2 %; 0 where there is none.

        Args:
            share: From 0 to 1, such as 0.99.
        """
        with _lock:
            left = math.ceil(share * sum(self._buckets.values()))
            for bucket in sorted(self._buckets):
                left -= self._buckets[bucket]
                if left <= 0:
                    return min(2 ** (bucket / _PER_DOUBLING), self.longest)
        return 0.0

    def __add__(self, other: Histogram) -> Histogram:
        """Those of both, as if they had been added to one."""
        both = Histogram()
        with _lock:
            for part in (self, other):
                for bucket, count in part._buckets.items():
                    both._buckets[bucket] = both._buckets.get(bucket, 0) + count
            both.seconds = self.seconds + other.seconds
            both.longest = max(self.longest, other.longest)
        return both

    def to_dict(self) -> dict[str, Any]:
        """As plain values; `p50` and `p99` are for the reader."""
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
        """From what `to_dict` gave."""
        made = cls()
        made._buckets = dict(values["buckets"])
        made.seconds, made.longest = values["seconds"], values["longest"]
        return made

    def __repr__(self) -> str:
        p50, p99 = self.quantile(0.5) * 1000, self.quantile(0.99) * 1000
        return f"<{len(self)} samples: p50 {p50:.2f} ms, p99 {p99:.2f} ms>"

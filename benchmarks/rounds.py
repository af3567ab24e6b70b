"""Rounds: every variant once in each, in another order each time, so that a slow minute is slow for all.

Figures are medians over the rounds; an overhead is taken within a round, over the suite without a database.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

__all__ = ["interleaved", "median", "quantile", "say"]

T = TypeVar("T")


def interleaved(variants: Mapping[str, Callable[[], T]], rounds: int, what: str) -> list[dict[str, T]]:
    """What each variant gave in each round.

    Args:
        variants: Each by its name.
        rounds: How many.
        what: For the progress that is shown.
    """
    order = list(variants)
    results: list[dict[str, T]] = []
    shuffle = random.Random(4711)
    for number in range(rounds):
        shuffle.shuffle(order)
        begin = time.monotonic()
        results.append({name: variants[name]() for name in order})
        say(f"{what}: round {number + 1} of {rounds} took {time.monotonic() - begin:.0f} s")
    return results


def median(values: list[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def say(text: str) -> None:
    """Show progress, beside the results."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

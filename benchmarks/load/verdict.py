"""Whether anything grew: the mean of the last quarter of a run against that of the second one.

The first quarter is that of beginnings, which may grow: caches fill, the pool finds its size, Python its memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

__all__ = ["TOLERANCES", "Growth", "Tolerance", "growths"]

FEWEST = 8
"""So many samples at least make quarters that mean anything."""


@dataclass(frozen=True)
class Tolerance:
    """How much more the last quarter may have than the second one.

    Args:
        share: Of the second quarter.
        more: Besides, in the unit of the figure.
    """

    share: float
    more: float


TOLERANCES: Mapping[str, Tolerance] = {
    "memory of a worker, MB": Tolerance(0.03, 1.0),
    "objects of a worker": Tolerance(0.01, 500),
    "threads of a worker": Tolerance(0, 0.5),
    "open files of a worker": Tolerance(0.05, 1.5),
    "connections": Tolerance(0.10, 3),
    "locks": Tolerance(0.10, 3),
    "databases": Tolerance(0.10, 5),
    "directories of databases": Tolerance(0.10, 5),
    "other files of the server": Tolerance(0.05, 5),
    "files of elefast": Tolerance(0.05, 2),
}
"""What is looked at. A leak of one in a hundred acquires is far beyond each of these in the long run."""


@dataclass(frozen=True)
class Growth:
    """One figure over a run.

    Args:
        what: Which.
        second: Its mean in the second quarter.
        last: And in the last one.
        most: The highest sample of all.
        grew: Whether that is more than may be.
    """

    what: str
    second: float
    last: float
    most: float
    grew: bool


def growths(samples: Sequence[Mapping[str, float]]) -> list[Growth]:
    """What became of each figure.

    Raises:
        ValueError: There are too few samples to say anything.
    """
    if len(samples) < FEWEST:
        raise ValueError(f"{len(samples)} samples are too few to say whether anything grew; let it run longer")
    quarter = len(samples) // 4
    found: list[Growth] = []
    for what, tolerance in TOLERANCES.items():
        values = [sample[what] for sample in samples if what in sample]
        if len(values) != len(samples):
            continue  # where nobody can count it, such as the files of a server elsewhere
        second, last = fmean(values[quarter : 2 * quarter]), fmean(values[-quarter:])
        found.append(Growth(what, second, last, max(values), last > second * (1 + tolerance.share) + tolerance.more))
    return found

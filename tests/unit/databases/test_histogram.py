"""Histograms of durations: what is read from them, and that parts add up."""

from __future__ import annotations

import json
import random
import threading

import pytest

from elefast.databases.histogram import Histogram


def _of(*seconds: float) -> Histogram:
    samples = Histogram()
    for value in seconds:
        samples.add(value)
    return samples


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_those_of_the_values(share: float) -> None:
    """Whatever the scale, to 2.5 %."""
    values = [random.Random(4711).lognormvariate(-6, 2) for _ in range(1000)]
    samples = _of(*random.Random(1).sample(values, 1000))
    assert samples.quantile(share) == pytest.approx(sorted(values)[round(share * 1000) - 1], rel=0.025)
    assert samples.seconds == pytest.approx(sum(values))
    assert samples.longest == max(values)
    assert len(samples) == 1000


def test_without_values_all_is_zero() -> None:
    """A stack that handed nothing out still has a report."""
    assert (len(_of()), _of().quantile(0.5), _of().seconds, _of().longest) == (0, 0.0, 0.0, 0.0)


def test_parts_add_up_to_the_whole() -> None:
    """Two workers' samples say the same as those of one that did it all, also after a trip through JSON."""
    values = [random.Random(7).expovariate(100) for _ in range(500)]
    both = _of(*values[:200]) + Histogram.from_dict(json.loads(json.dumps(_of(*values[200:]).to_dict())))
    whole = _of(*values).to_dict()
    assert both.to_dict() == whole | {"seconds": pytest.approx(whole["seconds"])}


def test_adding_leaves_the_parts_alone() -> None:
    """A report that is merged for show goes on counting."""
    one, other = _of(1.0), _of(2.0)
    assert len(one + other) == 2
    assert (one.to_dict(), other.to_dict()) == (_of(1.0).to_dict(), _of(2.0).to_dict())


def test_memory_is_bounded() -> None:
    """A run may have any number of tests, and a clock that goes wrong."""
    samples = _of(-1.0, 0.0, 1e-12, 1e12)
    for step in range(100_000):
        samples.add(step / 7919)
    assert len(json.dumps(samples.to_dict())) < 10_000


def test_threads_lose_nothing() -> None:
    """The pool's thread and those of the tests add to the same."""
    samples = Histogram()

    def add() -> None:
        for _ in range(2000):
            samples.add(0.001)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(samples) == 8000

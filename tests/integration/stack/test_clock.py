"""A test whose clock stands still, or goes elsewhere, is served as any other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import freezegun
import psycopg
import pytest
import time_machine

import elefast
from elefast.runtime import clock

THEN = datetime(2031, 1, 1, tzinfo=UTC)

Stop = Callable[[], AbstractContextManager[Any]]


@pytest.fixture(params=["freezegun", "time-machine"])
def stop(request: pytest.FixtureRequest) -> Stop:
    """Stops all clocks that the tool knows."""
    if request.param == "freezegun":
        return lambda: freezegun.freeze_time(THEN)
    return lambda: time_machine.travel(THEN, tick=False)


@pytest.fixture
def one(project: Path, env: dict[str, str]) -> Iterator[elefast.Stack]:
    """A stack with a pool of one."""
    with elefast.from_config(project, env=env, pool={"size": 1}) as stack:
        yield stack


@pytest.mark.fault("a clock that stands still", how="freezegun and time-machine, in tests that leave a connection open")
def test_a_leak_under_a_clock_that_stands_still(one: elefast.Stack, stop: Stop) -> None:
    """Whoever waited by that clock would wait for ever, in the pool's threads as well, and at the end of the run."""
    left: list[psycopg.Connection] = []
    for number in range(4):
        with stop():
            assert time.time() == THEN.timestamp()
            lent = one.checkout(f"test {number}")
            left.append(psycopg.connect(lent.dsn))
            lent.release()
    one.checkout("another").release()
    one.close()
    assert one.started
    assert sorted({leak.test for leak in one.started.take_leaks()}) == [f"test {number}" for number in range(4)]
    for connection in left:
        connection.close()


def test_the_clock_goes_on(stop: Stop) -> None:
    """Deadlines and durations are those of the real world."""
    before = clock.now()
    with stop():
        began = clock.now()
        time.sleep(0.01)
        assert 0.01 <= clock.now() - began < 60
    assert 0 <= began - before < 60

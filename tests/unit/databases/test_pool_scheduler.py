"""Who waits for whom, by the times that things take."""

from __future__ import annotations

import pytest

from elefast.databases.pool_scheduler import PoolScheduler


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scheduler(clock: Clock) -> PoolScheduler:
    return PoolScheduler(clock)


def test_before_it_is_known_how_often_tests_come_nothing_rests(scheduler: PoolScheduler, clock: Clock) -> None:
    """The first tests find the pool empty, so it has to hurry."""
    scheduler.ask()
    assert scheduler.rest(0.001) == 0
    clock.now += 60
    scheduler.ask()
    assert scheduler.rest(0.001) == 0


def test_work_rests_while_a_test_begins(scheduler: PoolScheduler, clock: Clock) -> None:
    """It begins as soon as the test has had the time for its first questions, and no sooner."""
    for _ in range(3):
        clock.now += 0.030
        scheduler.ask()
    assert scheduler.rest(0.015) == pytest.approx(0.006)
    clock.now += 0.004
    assert scheduler.rest(0.015) == pytest.approx(0.002)
    clock.now += 0.002
    assert scheduler.rest(0.015) <= 1e-9


def test_work_rests_before_the_next_test_begins(scheduler: PoolScheduler, clock: Clock) -> None:
    """A test that ends is mostly followed by one that begins."""
    for _ in range(3):
        clock.now += 0.030
        scheduler.ask()
    clock.now += 0.029
    assert scheduler.rest(0.015) < 0
    scheduler.release()
    assert scheduler.rest(0.015) == pytest.approx(0.006)


def test_nothing_rests_where_tests_come_quickly(scheduler: PoolScheduler, clock: Clock) -> None:
    """What would be late for the next test is begun at once, also after a long one."""
    for interval in (0.020, 0.020, 0.020, 60):
        clock.now += interval
        scheduler.ask()
    assert scheduler.rest(0.015) == 0
    assert scheduler.rest(0.010) > 0


def test_a_new_one_is_made_when_that_is_sooner(scheduler: PoolScheduler, clock: Clock) -> None:
    """One that is expected back is waited for as long as a new one would take."""
    scheduler.making = 0.050
    asked = clock.now
    assert scheduler.until_made(asked) == pytest.approx(0.050)
    clock.now += 0.060
    assert scheduler.until_made(asked) < 0


def test_only_what_is_more_than_half_done_is_waited_for(scheduler: PoolScheduler, clock: Clock) -> None:
    """Where it takes longer, to connect takes less."""
    begun = scheduler.begin()
    clock.now += 0.020
    scheduler.end(begun, was_reset=True)
    assert scheduler.resetting == pytest.approx(0.020)
    longer = scheduler.begin()
    clock.now += 0.250
    scheduler.end(longer, was_reset=False)
    assert scheduler.resetting == pytest.approx(0.020)
    assert scheduler.recycling == pytest.approx(0.250)
    assert scheduler.until_reset() == 0, "nothing is under way"
    scheduler.begin()
    assert scheduler.under_way == 1
    clock.now += 0.005
    assert scheduler.until_reset() == 0
    clock.now += 0.006
    assert scheduler.until_reset() == pytest.approx(0.009)

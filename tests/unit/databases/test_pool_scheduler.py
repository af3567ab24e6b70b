"""Who waits for whom, by the times that things take."""

from __future__ import annotations

import pytest

from elefast.databases.pool_scheduler import Pace


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
def pace(clock: Clock) -> Pace:
    return Pace(clock)


def test_before_it_is_known_how_often_tests_come_nothing_rests(pace: Pace, clock: Clock) -> None:
    """The first tests find the pool empty, so it has to hurry."""
    pace.ask()
    assert pace.rest(0.001) == 0
    clock.now += 60
    pace.ask()
    assert pace.rest(0.001) == 0


def test_work_rests_while_a_test_begins(pace: Pace, clock: Clock) -> None:
    """It begins as soon as the test has had the time for its first questions, and no sooner."""
    for _ in range(3):
        clock.now += 0.030
        pace.ask()
    assert pace.rest(0.015) == pytest.approx(0.006)
    clock.now += 0.004
    assert pace.rest(0.015) == pytest.approx(0.002)
    clock.now += 0.002
    assert pace.rest(0.015) <= 1e-9


def test_work_rests_before_the_next_test_begins(pace: Pace, clock: Clock) -> None:
    """A test that ends is mostly followed by one that begins."""
    for _ in range(3):
        clock.now += 0.030
        pace.ask()
    clock.now += 0.029
    assert pace.rest(0.015) < 0
    pace.give_back()
    assert pace.rest(0.015) == pytest.approx(0.006)


def test_nothing_rests_where_tests_come_quickly(pace: Pace, clock: Clock) -> None:
    """What would be late for the next test is begun at once, also after a long one."""
    for interval in (0.020, 0.020, 0.020, 60):
        clock.now += interval
        pace.ask()
    assert pace.rest(0.015) == 0
    assert pace.rest(0.010) > 0


def test_a_new_one_is_made_when_that_is_sooner(pace: Pace, clock: Clock) -> None:
    """One that is expected back is waited for as long as a new one would take."""
    pace.making = 0.050
    asked = clock.now
    assert pace.until_new(asked) == pytest.approx(0.050)
    clock.now += 0.060
    assert pace.until_new(asked) < 0


def test_only_what_is_more_than_half_done_is_waited_for(pace: Pace, clock: Clock) -> None:
    """Where it takes longer, to connect takes less."""
    begun = pace.begin()
    clock.now += 0.020
    pace.end(begun, back=True)
    assert pace.returning == pytest.approx(0.020)
    longer = pace.begin()
    clock.now += 0.250
    pace.end(longer, back=False)
    assert pace.returning == pytest.approx(0.020)
    assert pace.seeing == pytest.approx(0.250)
    assert pace.until_back() == 0, "nothing is under way"
    pace.begin()
    assert pace.under_way == 1
    clock.now += 0.005
    assert pace.until_back() == 0
    clock.now += 0.006
    assert pace.until_back() == pytest.approx(0.009)

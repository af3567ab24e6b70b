"""Which databases a pool makes, keeps and drops where tests ask for several states."""

from __future__ import annotations

from elefast.databases.pool_demand import PoolDemand


def _demand(size: int, *asked: str, upcoming: str = "") -> PoolDemand:
    demand = PoolDemand(size)
    for state in asked:
        demand.ask(state, ())
    demand.ask(asked[-1], list(upcoming))
    return demand


def test_one_state_fills_the_pool() -> None:
    """As many databases as `size` says, and no more are kept."""
    demand = _demand(4, "a")
    assert demand.is_single
    assert demand.capacity == 4
    assert demand.lacking({"a": 3}, expects_reset=True) == "a"
    assert demand.lacking({"a": 4}, expects_reset=True) is None


def test_several_states_have_one_more_each() -> None:
    """Ten scenarios in turn do not have a pool each."""
    demand = _demand(4, *"abcdefghij", upcoming="abcdefghij")
    assert demand.capacity == 14
    assert not _demand(0, *"ab", upcoming="ab").capacity


def test_the_next_tests_come_first() -> None:
    """In their order; a state that no test has asked for so far has no template yet."""
    demand = _demand(3, *"abc", upcoming="xbca")
    assert demand.next == "b"
    assert demand.lacking({}, expects_reset=True) == "b"
    assert demand.lacking({"b": 1}, expects_reset=True) == "c"
    assert demand.lacking({"b": 1, "c": 1, "a": 1}, expects_reset=True) is None


def test_two_databases_in_turn_are_enough_where_they_are_reset() -> None:
    """Where each is dropped, one for each of the next tests is made."""
    demand = _demand(4, *"ab", upcoming="aaab")
    assert demand.lacking({"a": 2, "b": 1}, expects_reset=True) is None
    assert demand.lacking({"a": 2, "b": 1}, expects_reset=False) == "a"


def test_the_database_that_is_needed_last_makes_room() -> None:
    """One that no coming test needs goes first; those that the next tests need stay."""
    demand = _demand(2, *"abcd", upcoming="abcaba")
    assert demand.least_needed(["a", "b", "c", "d"]) == 3
    assert demand.least_needed(["a", "b", "c"]) == 2
    assert demand.least_needed(["a", "a", "b"]) == 1
    assert demand.least_needed(["a", "b"]) is None
    assert demand.least_needed(["a", "b"], but="a", urgent=True) == 1
    assert demand.least_needed(["a", "a"], but="a", urgent=True) is None


def test_what_no_coming_test_needs_is_not_reset() -> None:
    """Unless nothing is known of the coming tests."""
    assert not _demand(4, *"ab", upcoming="bbb").uses("a")
    assert _demand(4, *"ab").uses("a")

"""With one transaction for each test, what one does is rolled back, refused, noticed, or known to stay."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from .conftest import Dirty
from .project.dirt import DIRT, SHARED
from .project.transactions import FATES

_SHARED = {dirt.name for dirt in SHARED}
_NOTICED = {
    f"test_{kind}[{name}]": fate.noticed
    for name, fate in FATES.items()
    for kind in ("sync", "async")
    if kind == "sync" or name not in _SHARED
}
_PAST = ("test_past_it[commit]", "test_past_it[rollback]", "test_past_it[another-session]", "test_past_it[closed]")


def test_each_fate_is_of_a_kind() -> None:
    """What is expected of something that nobody does proves nothing."""
    assert not FATES.keys() - {dirt.name for dirt in (*DIRT, *SHARED)}


@pytest.mark.fault(
    'a test changes everything that it can, with isolation = "transaction"', how="60 kinds of dirt, and a full look"
)
@pytest.mark.parametrize(
    ("driver", "async_driver"), [("psycopg", "psycopg"), ("psycopg2", "asyncpg"), ("pg8000", "asyncpg")]
)
def test_no_test_sees_what_another_one_did(
    dirty: Dirty,
    driver: str,
    async_driver: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Each kind is rolled back, refused by PostgreSQL, named at the cost of the database, or known to stay."""
    keys = 'isolation = "transaction"'
    result = dirty.run("test_transactions", driver=driver, async_driver=async_driver, keys=keys)
    tests = 2 * len(DIRT) + len(SHARED) + len(_PAST) + 4
    record_property("times", tests)
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed", 0) == tests
    assert not {"failed", "errors", "skipped"} & outcomes.keys()
    told = re.findall(r"LeakWarning: (.*)", result.stdout.str())
    noticed = {**{test: text for test, text in _NOTICED.items() if text}, **dict.fromkeys(_PAST, "")}
    missing = {test for test, text in noticed.items() if not any(test in line and text in line for line in told)}
    assert not missing
    suspected = {fate.suspected for fate in FATES.values() if fate.suspected}
    assert {text for text in suspected if any(text in line and " or one of " in line for line in told)} == suspected
    expected = (*noticed, *suspected, "_never_awaited")
    unexpected = [line for line in told if not any(test in line for test in expected)]
    assert not unexpected

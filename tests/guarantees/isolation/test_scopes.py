"""Tests that share a database by the marker's `scope` see what each other did; no other test does."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from .conftest import Dirty
from .project.dirt import DIRT, SHARED


@pytest.mark.fault("tests that share a database change all they can", how="60 kinds of dirt, in a scope and around it")
@pytest.mark.parametrize(("driver", "async_driver", "workers"), [("psycopg", "asyncpg", 0), ("pg8000", "psycopg", 2)])
def test_no_test_outside_of_a_scope_sees_what_its_tests_did(
    dirty: Dirty, driver: str, async_driver: str, workers: int, record_property: Callable[[str, object], None]
) -> None:
    """Neither the tests before and after it nor the next scope; leaks are named with the scope."""
    options = ("-n", str(workers), "--dist", "loadfile") if workers else ()
    result = dirty.run("test_scopes", *options, driver=driver, async_driver=async_driver)
    tests = (3 + 2 * 2) * len(DIRT) + 2 * len(SHARED) + 1
    record_property("times", tests)
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed", 0) == tests
    assert not {"failed", "errors", "skipped"} & outcomes.keys()
    told = re.findall(r"LeakWarning: (.*)", result.stdout.str())
    expected = {
        (f"{test}_{dirt.name.replace('-', '_')}", dirt.leaks.replace("{kind}", kind))
        for dirt in DIRT
        if dirt.leaks
        for test, kind in (
            ("test_before", "before"),
            ("::TestSync", "scope"),
            ("test_between", "between"),
            ("::TestAsync", "async_scope"),
            ("test_after", "after"),
        )
    }
    expected |= {(f"::TestSync_{dirt.name.replace('-', '_')}", dirt.leaks) for dirt in SHARED if dirt.leaks}
    missing = {(test, leak) for test, leak in expected if not any(test in line and leak in line for line in told)}
    assert not missing

"""With a database for each test, nothing that one does is there for the next."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from .conftest import Dirty
from .project.dirt import DIRT, SHARED

_LEAKS = {f"test_sync[{dirt.name}]": dirt.leaks.replace("{kind}", "sync") for dirt in (*DIRT, *SHARED) if dirt.leaks}
_LEAKS |= {f"test_async[{dirt.name}]": dirt.leaks.replace("{kind}", "async") for dirt in DIRT if dirt.leaks}
_LEAKS["test_a_query_that_still_runs"] = "left a connection open"


@pytest.mark.fault("a test changes everything that it can", how="60 kinds of dirt, each followed by a full look")
@pytest.mark.parametrize(
    ("driver", "async_driver", "workers"),
    [("psycopg", "psycopg", 0), ("psycopg2", "asyncpg", 0), ("pg8000", "asyncpg", 2)],
)
def test_no_test_sees_what_another_one_did(
    dirty: Dirty,
    driver: str,
    async_driver: str,
    workers: int,
    record_property: Callable[[str, object], None],
) -> None:
    """Nothing of it is there for the next test; what PostgreSQL shares is named with the test that did it."""
    options = ("-n", str(workers)) if workers else ()
    result = dirty.run("test_tests", *options, driver=driver, async_driver=async_driver)
    tests = 2 * len(DIRT) + len(SHARED) + 4
    record_property("times", tests)
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed", 0) == tests
    assert not {"failed", "errors", "skipped"} & outcomes.keys()
    told = re.findall(r"LeakWarning: (.*)", result.stdout.str())
    missing = {test for test, leak in _LEAKS.items() if not any(test in line and leak in line for line in told)}
    assert not missing
    # A thread that comes late finds no database, or leaves a connection, and a task may be cancelled with its loop.
    expected = (*_LEAKS.values(), "_later", "_never_awaited")
    unexpected = [line for line in told if not any(leak in line for leak in expected)]
    assert not unexpected

"""With a pool of one database, the next test has that one again wherever it can be put back, and sees nothing of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import pytest

from .conftest import Dirty
from .project.again import MAY_COME_BACK, PUT_BACK
from .project.dirt import DIRT


@pytest.mark.fault("a test's database is given to the next one", how="dirt of each kind, with a pool of one database")
@pytest.mark.parametrize(("driver", "async_driver"), [("psycopg", "psycopg"), ("pg8000", "asyncpg")])
def test_no_test_sees_what_another_one_did_there(
    dirty: Dirty,
    server_url: str,
    driver: str,
    async_driver: str,
    record_property: Callable[[str, object], None],
) -> None:
    """What can be undone is undone in the same database, after all else it is another one: of each kind it is known."""
    with psycopg.connect(server_url.replace("+psycopg", "")) as connection:
        if connection.info.server_version < 150000:
            pytest.skip("PostgreSQL 14 does not tell what was written to, see docs/concepts/pool.md")
    keys, report = "pool.size = 1\npool.max = 1", "--elefast-report"
    result = dirty.run("test_again", report, driver=driver, async_driver=async_driver, keys=keys, warnings="error")
    kinds = [dirt.name for dirt in DIRT if not dirt.leaks]
    tests = 2 * len(kinds) + 1
    record_property("times", tests)
    assert result.parseoutcomes() == {"passed": tests}
    (resets,) = re.findall(r"(\d+) reset in", result.stdout.str())
    record_property("happened", f"{resets} databases reset, the others dropped")
    # The run's last one is seen to at its end, or not any more.
    more = int(resets) - 2 * len(PUT_BACK & set(kinds))
    assert 0 <= more <= 1 + 2 * len(MAY_COME_BACK)

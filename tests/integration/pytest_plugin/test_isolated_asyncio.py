"""`unittest.IsolatedAsyncioTestCase`: what the async fixtures hand out is closed in the loop of the test."""

from __future__ import annotations

import pytest

from .conftest import Project

TESTS = """
import unittest
import pytest
from sqlalchemy import text

CLOSED = []

class TestIt(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _database(self, async_db, async_db_session, async_db_connection):
        self.database, self.session, self.connection = async_db, async_db_session, async_db_connection

    async def asyncSetUp(self):
        await self.session.execute(text("create table mark ()"))

    async def asyncTearDown(self):
        await self.session.execute(text("select 1"))

    async def test_both(self):
        self.assertEqual(await self.session.scalar(text("select count(*) from mark")), 0)
        self.assertEqual(await self.connection.scalar(text("select 1")), 1)

    async def test_bad(self):
        await self.connection.execute(text("select 1"))
        self.fail("mine")

    def test_sync(self):
        pass
"""


@pytest.mark.parametrize("options", ["", "engine.pool_size = 2\n"], ids=["no pool", "pool"])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_it_is_closed_in_its_loop(project: Project, driver: str, options: str) -> None:
    """With warnings as errors, also where a pool keeps connections, and where the test fails."""
    project.configure(f'migrator = "none"\nleaks = "error"\n{options}engine.async_driver = "{driver}"')
    project.tests(TESTS)
    result = project.run_apart()
    result.assert_outcomes(passed=2, failed=1)
    text = result.stdout.str() + result.stderr.str()
    assert "mine" in text
    assert "Event loop is closed" not in text
    assert "unclosed" not in text

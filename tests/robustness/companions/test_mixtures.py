"""Runs of projects that have tests of several kinds."""

from __future__ import annotations

import pytest

from tests.robustness.companions.project import Project

LOOPS = """
import asyncio

import anyio
import pytest
from use import use

def test_sync(db_session): use(db_session)

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(2))
async def test_asyncio(async_db_session, number):
    await async_db_session.run_sync(lambda session: use(session))
    await asyncio.sleep(0)

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(2))
async def test_anyio(async_db_session, number):
    await async_db_session.run_sync(lambda session: use(session))
    await anyio.sleep(0)

@pytest.fixture
def anyio_backend(): return "asyncio"
"""

CASES = """
import unittest

import pytest
from use import rows, use

class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _database(self, db_session):
        self.session = db_session

    def setUp(self): use(self.session)

    def tearDown(self): assert len(rows(self.session, "select body from note")) == 1

    def test_one(self): self.session.rollback()

    def test_two(self):
        assert len(rows(self.session, "select body from note")) == 1

    def test_fails(self): self.fail("on purpose")

    @unittest.expectedFailure
    def test_is_expected(self): self.fail("as expected")

    @unittest.skip("not now")
    def test_skipped(self): use(self.session, "skipped")

def test_function(db_session): use(db_session)
"""

COVERED = """
import threading

import pytest
from shop import price
from use import use

@pytest.mark.parametrize("number", range(4))
def test_it(db_session, number):
    use(db_session)
    assert price(number)
"""


@pytest.mark.fault("pytest-asyncio and anyio in one run", how="tests of both, and sync ones, on asyncpg")
def test_loops(project: Project) -> None:
    """Each test has a database of its own, in whatever loop it runs."""
    project.write("test_it.py", LOOPS)
    ended = project.run(ELEFAST_ENGINE__ASYNC_DRIVER="asyncpg")
    ended.came_to(passed=5)
    assert len(ended.seen) == 5
    project.gone()


@pytest.mark.fault(
    "unittest.TestCase in a project", how="five tests of a class: one fails, others are skipped or expected"
)
def test_cases(project: Project) -> None:
    """Each test of a class has a database of its own, from setUp to tearDown."""
    project.write("test_it.py", CASES)
    ended = project.run()
    ended.came_to(passed=3, failed=1, skipped=1, xfailed=1)
    assert len(ended.seen) == 5
    project.gone()


@pytest.mark.fault("pytest-cov", how="`--cov` of a module of the project, with two workers")
def test_coverage(project: Project) -> None:
    """The tests pass, and what they ran is counted in full."""
    project.write("shop.py", "def price(number):\n    if number >= 0:\n        return 1 + number\n    return 0\n")
    project.write("test_it.py", COVERED)
    ended = project.run("--cov=shop", "--cov-branch", "--cov-report=term-missing", "-n", "2", plugins=["pytest_cov"])
    ended.came_to(passed=4)
    assert [line.split() for line in ended.text.splitlines() if line.startswith("shop.py")] == [
        ["shop.py", "4", "1", "2", "1", "67%", "4"]
    ], ended.text
    project.gone()

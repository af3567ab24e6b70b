"""Runs in which a test runs more than once, or whenever it likes."""

from __future__ import annotations

import pytest

from tests.robustness.companions.project import Project

# The first attempt of each test writes and fails.
RERUNS = """
from pathlib import Path

import pytest
from use import rows, use

attempts = set()

def fails_once(name):
    if name not in attempts:
        attempts.add(name)
        raise AssertionError("the first attempt fails")

@pytest.fixture(scope="module")
def archive(db_server):
    '''A database of the module's own, which all its tests write to.'''
    with db_server.create_database() as database:
        yield database

@pytest.fixture(scope="class")
def shelf(db_server):
    with db_server.create_database() as database, database.session() as session:
        use(session, "a class")
        yield session

@pytest.fixture
def broken(db_session):
    use(db_session, "a fixture")
    fails_once("broken")
    return db_session

def test_function(db_session, archive):
    use(db_session)
    with archive.session() as session:
        session.execute(rows.__globals__["text"]("insert into note (body) values ('kept')"))
        session.commit()
        written = len(rows(session, "select body from note"))
        assert written == 1 + ("function" in attempts)
    fails_once("function")

class TestClass:
    def test_method(self, db_session, shelf):
        use(db_session)
        assert len(rows(shelf, "select body from note")) == 1
        fails_once("method")

    def test_another(self, db_session, shelf):
        use(db_session)
        assert len(rows(shelf, "select body from note")) == 1

def test_fixture(broken):
    assert len(rows(broken, "select body from note")) == 1

@pytest.mark.elefast(isolation="transaction")
def test_transaction(db_session):
    assert rows(db_session, "select body from note") == []
    db_session.execute(rows.__globals__["text"]("insert into note (body) values ('undone')"))
    db_session.commit()
    fails_once("transaction")
"""

TESTS = """
import pytest
from use import use

def test_one(db_session): use(db_session)

@pytest.mark.parametrize("number", range(7))
def test_many(db_session, number): use(db_session)
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "loadfile")], ids=["alone", "workers"])
@pytest.mark.fault(
    "pytest-rerunfailures", how="`--reruns 1`, with tests and fixtures that fail after they have written"
)
def test_reruns(project: Project, workers: tuple[str, ...]) -> None:
    """A rerun has another database, as new; what belongs to a module or a class is what it was."""
    project.write("test_it.py", RERUNS)
    ended = project.run("--reruns", "1", *workers, plugins=["rerunfailures"])
    ended.came_to(passed=5, rerun=4)
    assert ended.tests.count("test_function") == 2, ended.tests
    assert ended.tests.count("a fixture") == 2
    assert ended.tests.count("TestClass::test_method") == 2
    assert ended.tests.count("a class") in (1, 2)  # the plugin may set up a class anew
    project.gone()


@pytest.mark.parametrize("place", ["local"], indirect=True)
@pytest.mark.fault("pytest-rerunfailures, never passing", how="`--reruns 2`, with a test that fails each time")
def test_reruns_in_vain(project: Project) -> None:
    """Each attempt has a database of its own, and all of them go."""
    project.write(
        "test_it.py", "from use import use\ndef test_it(db_session):\n    use(db_session)\n    assert False\n"
    )
    ended = project.run("--reruns", "2", plugins=["rerunfailures"])
    ended.came_to(failed=1, rerun=2)
    assert len(ended.seen) == 3
    project.gone()


@pytest.mark.fault("pytest-repeat", how="`--count 3`, with eight tests")
def test_count(project: Project) -> None:
    """Each repetition has a database of its own."""
    project.write("test_it.py", TESTS)
    ended = project.run("--count", "3", plugins=["repeat"])
    ended.came_to(passed=24)
    assert len(ended.seen) == 24
    project.gone()


@pytest.mark.fault("pytest-randomly", how="eight tests by two seeds, the second time with two workers")
def test_random_order(project: Project) -> None:
    """All tests pass in any order."""
    project.write("test_it.py", TESTS)
    first = project.run("--randomly-seed=1", plugins=["randomly"])
    second = project.run("-n", "2", "--randomly-seed=2", plugins=["randomly"])
    in_order = ["test_one", *(f"test_many[{number}]" for number in range(7))]
    for ended in (first, second):
        ended.came_to(passed=8)
        assert sorted(ended.tests) == sorted(in_order)
    assert first.tests != in_order
    project.gone()

"""Runs in which tests are run in forks of the process."""

from __future__ import annotations

import pytest

from tests.robustness.companions.project import Project

TESTS = """
import pytest
from use import use

@pytest.mark.parametrize("number", range(6))
def test_it(db_session, number):
    use(db_session)
"""

# What pytest-forked does, which does not work with pytest 9.2: the child runs the test with its fixtures, tells how it
# went, and ends at once. With FORKED=some the first test and the last are run by the parent itself.
FORKED = """
import json
import os

import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    if os.environ["FORKED"] == "some" and ("[0]" in item.nodeid or nextitem is None):
        return None
    hook = item.config.hook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        reports = runtestprotocol(item, log=False)
        told = [hook.pytest_report_to_serializable(config=item.config, report=report) for report in reports]
        os.write(theirs, json.dumps(told).encode())
        os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        told = json.loads(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    for one in told:
        report = hook.pytest_report_from_serializable(config=item.config, data=one)
        hook.pytest_runtest_logreport(report=report)
    item.session._setupstate.teardown_exact(nextitem)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""

# The child runs nothing but the function of the test, with what the parent's fixtures gave.
FUNCTION_FORKED = """
import os
import traceback

import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    pid = os.fork()
    if not pid:
        try:
            pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return True
"""

# The parent goes on with a connection that it had before, after each of three children has used the same engine.
FAMILY = """
import atexit
import os

import pytest
from use import rows, use

MINE = "select pg_backend_pid()"

@pytest.mark.parametrize("end", ["at once", "in good order", "with a stack of its own"])
def test_it(db, db_session, elefast_stack, end):
    use(db_session)
    backend = rows(db_session, MINE)
    pid = os.fork()
    if not pid:
        try:
            with db.engine.connect() as connection:
                assert rows(connection, MINE) != backend
                assert len(rows(connection, "select body from note")) == 1
            if end == "in good order":
                atexit._run_exitfuncs()
            if end == "with a stack of its own":
                with elefast_stack.server.create_database() as other, other.engine.connect() as connection:
                    assert rows(connection, "select count(*) from note") == [(0,)]
                elefast_stack.close()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert rows(db_session, MINE) == backend
    assert len(rows(db_session, "select body from note")) == 1
"""

# With one connection for all, the child can have none.
SHARED = """
import os

import pytest
from sqlalchemy import text
from use import rows

pytestmark = pytest.mark.elefast(isolation="transaction")
BODIES = "select body from note"

@pytest.mark.parametrize("used_before", [False, True])
def test_it(db, db_session, used_before):
    before = rows(db_session, "insert into note (body) values ('parent') returning body") if used_before else []
    pid = os.fork()
    if not pid:
        for session in (db_session, db.session()):
            try:
                print("CHILD", rows(session, BODIES), flush=True)
            except BaseException as error:
                print("CHILD", type(error).__name__, error, flush=True)
            session.rollback()
            session.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert rows(db_session, BODIES) == before
    rows(db_session, "insert into note (body) values ('after') returning body")
    db_session.commit()
    with db.session() as session:
        assert rows(session, BODIES) == [*before, ("after",)]
"""


@pytest.mark.parametrize(
    ("place", "which", "workers"),
    [("url", "all", 0), ("url", "some", 2), ("local", "all", 2), ("local", "some", 0)],
    indirect=["place"],
)
@pytest.mark.fault("tests in forks", how="a plugin that runs each test in a fork, alone and with two workers")
def test_forked(project: Project, which: str, workers: int) -> None:
    """Each test has a database of its own, and nothing is left of its process."""
    project.write("conftest.py", FORKED)
    project.write("test_it.py", TESTS)
    ended = project.run("-n", str(workers), FORKED=which)
    ended.came_to(passed=6)
    assert len(ended.seen) == 6
    if which == "all":
        assert len({seen.pid for seen in ended.seen}) == 6
    project.gone()


@pytest.mark.fault("tests in forks, with fixtures of the parent", how="a plugin that forks for the function of a test")
def test_function_in_a_fork(project: Project) -> None:
    """The child has its parent's database over a connection of its own, and the parent drops it."""
    project.write("conftest.py", FUNCTION_FORKED)
    project.write("test_it.py", TESTS)
    ended = project.run()
    ended.came_to(passed=6)
    assert len({seen.pid for seen in ended.seen}) == 6
    project.gone()


@pytest.mark.parametrize("place", ["url", "local"], indirect=True)
@pytest.mark.fault("a test that forks", how="os.fork in a test; the child uses its engine, and ends in three ways")
def test_child_of_a_test(project: Project) -> None:
    """The child has a connection of its own, and the parent's is as it was after the child has ended."""
    project.write("test_it.py", FAMILY)
    project.run("-s", "-W", "ignore::DeprecationWarning").came_to(passed=3)
    project.gone()


@pytest.mark.fault("a test that forks, isolated by a transaction", how="os.fork in a test; the child uses its sessions")
def test_child_of_a_transaction(project: Project) -> None:
    """The child is refused, because the one connection is its parent's; the parent's transaction is as it was."""
    project.write("test_it.py", SHARED)
    ended = project.run("-s", "-W", "ignore::DeprecationWarning")
    ended.came_to(passed=2)
    assert ended.text.count("CHILD RefusedError") == 4, ended.text
    assert "forked" in ended.text
    project.gone()

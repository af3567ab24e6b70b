"""Runs in which a test takes too long, and something ends it or the whole process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.providers.provider_support import until
from tests.robustness.companions.project import Project

# The test that hangs waits for the server, or in Python with a transaction open.
TESTS = """
import os
import time

import pytest
from use import rows, use

def hang(session, where):
    if os.environ.get("HANGS"):
        rows(session, "select pg_sleep(60)") if where == "server" else time.sleep(60)

# Of the function alone: the first test waits for a server and a template as well.
limited = [pytest.mark.timeout(3, func_only=True)] if "LIMITED" in os.environ else []
hanging = [pytest.param(where, marks=limited) for where in ("server", "python")]

@pytest.mark.parametrize("where", ["nowhere", *hanging, "nowhere again"])
def test_it(db_session, where):
    use(db_session)
    if not where.startswith("nowhere"):
        rows(db_session, "select count(*) from note")
        hang(db_session, where)
"""


@pytest.mark.fault("pytest-timeout, method signal", how="`timeout(3)`; a test waits for the server, another sleeps")
def test_signal(project: Project) -> None:
    """The tests that took too long fail, the others pass, and nothing is left."""
    project.write("test_it.py", TESTS)
    ended = project.run(
        *("--timeout-method=signal", "--timeout-disable-debugger-detection"),
        *("-W", "default::elefast.LeakWarning"),
        plugins=["timeout"],
        HANGS="1",
        LIMITED="1",
    )
    outcomes = {name: count for name, count in ended.outcomes.items() if not name.startswith("warning")}
    assert outcomes == {"passed": 2, "failed": 2}, ended.text
    assert "Timeout" in ended.text
    ended.private()
    project.gone()


@pytest.mark.parametrize("place", ["url", "local"], indirect=True)
@pytest.mark.fault(
    "pytest-timeout, method thread", how="`timeout(3)`, which ends the process by os._exit; one run more"
)
def test_thread(project: Project, record_property: Callable[[str, object], None]) -> None:
    """The run after the one whose process was ended passes, and nothing is left after it."""
    project.write("test_it.py", TESTS)
    ended = project.run("--timeout-method=thread", plugins=["timeout"], HANGS="1", LIMITED="1")
    assert "Timeout" in ended.text
    assert ended.status == 1, ended.text
    assert "passed" not in ended.text
    # On a server that is not elefast's, its query goes on, and its database is left alone until that has ended.
    query = "state = 'active' and query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
    project.place.ask(f"select pg_terminate_backend(pid, 10000) from pg_stat_activity where {query}")
    assert until(lambda: not ended.run.family(), 30)
    project.run().came_to(passed=4)
    project.gone()
    record_property("left", "nothing after the next run")


@pytest.mark.fault("faulthandler_timeout", how="1 s, and a test that sleeps for 2; then a run that is ended by it")
def test_fault_handler(project: Project, record_property: Callable[[str, object], None]) -> None:
    """A test that takes long is told and passes; where the process is ended, the next run leaves nothing."""
    project.write(
        "test_it.py",
        TESTS.replace("pg_sleep(60)", "pg_sleep(2)").replace("time.sleep(60)", "time.sleep(2)"),
    )
    option = ("-o", "faulthandler_timeout=1")
    ended = project.run(*option, HANGS="1")
    ended.came_to(passed=4)
    assert ended.text.count("Timeout (0:00:01)!") >= 2
    ended = project.run(*option, "-o", "faulthandler_exit_on_timeout=true", HANGS="1")
    assert ended.status == 1, ended.text
    assert "passed" not in ended.text
    # Its last statement goes on without it, and as long as that does, nobody drops the database.
    asleep = "select pid from pg_stat_activity where query like '%pg_sleep(2)%' and pid <> pg_backend_pid()"
    assert until(lambda: not project.place.ask(asleep), 10)
    project.run(*option).came_to(passed=4)
    project.gone()
    record_property("left", "nothing after the next run")


@pytest.mark.parametrize("place", ["local"], indirect=True)
@pytest.mark.fault("pytest-timeout while a server starts", how="`--timeout=0.1`, method signal; one run more")
def test_start(project: Project, record_property: Callable[[str, object], None]) -> None:
    """Where the first test has no time to wait for its server, the run ends by itself and the next one passes."""
    project.write("test_it.py", TESTS)
    ended = project.run("--timeout=0.1", "--timeout-method=signal", plugins=["timeout"])
    assert ended.status == 1, ended.text
    assert "Timeout" in ended.text
    assert "INTERNALERROR" not in ended.text
    ended.private()
    project.run().came_to(passed=4)
    project.gone()
    record_property("left", "nothing after the next run")

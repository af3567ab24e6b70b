"""The server is restarted in the middle of a run."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from elefast.errors import DatabaseNotReadyError
from elefast.postgres.connections import maintenance_session
from tests.guarantees.projects.project_support import Project
from tests.integration.providers.provider_support import until
from tests.robustness.faults.conftest import Open, works
from tests.robustness.faults.server import Server

HOW = [pytest.param(signal.SIGINT, id="fast"), pytest.param(signal.SIGQUIT, id="immediate")]


@pytest.mark.fault("server restarted between tests", how="SIGINT or SIGQUIT to the postmaster, then a new one")
@pytest.mark.parametrize("how", HOW)
def test_between_tests(open_stack: Open, server: Server, how: signal.Signals) -> None:
    """The next test has a database, and what was made before is gone at the end."""
    with open_stack() as stack:
        for _ in range(3):
            works(stack)
        server.restart(how)
        for _ in range(3):
            works(stack)


@pytest.mark.fault("server restarted during a test", how="SIGQUIT to the postmaster while a test has its database")
def test_during_a_test(open_stack: Open, server: Server) -> None:
    """The test sees the error of its own connection, and the tests after it none."""
    with open_stack() as stack:
        lent = stack.checkout("the unlucky one")
        connection = lent.sync.engine.connect()
        connection.execute(text("insert into note values ('lost')"))
        server.restart()
        with pytest.raises(DBAPIError):
            connection.execute(text("select 1"))
        connection.close()
        lent.release()
        works(stack)
        assert stack.service.take_leaks() == []


@pytest.mark.fault("server away for a while", how="SIGQUIT to the postmaster, a new one a second later")
def test_away_for_a_while(open_stack: Open, server: Server) -> None:
    """The next test waits for it."""
    with open_stack() as stack:
        works(stack)
        server.stop(signal.SIGQUIT)
        with ThreadPoolExecutor() as beside:
            working = beside.submit(works, stack)
            time.sleep(1)
            server.start()
            working.result(60)


@pytest.mark.fault("server away for good", how="SIGQUIT to the postmaster in the middle of a run")
def test_away_for_good(open_stack: Open, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once; whatever the tests after that ask for fails at the first attempt, also at the end."""
    attempts: list[maintenance_session.MaintenanceSession] = []
    connect = maintenance_session.MaintenanceSession._connect

    def counted(self: maintenance_session.MaintenanceSession, timeout: float) -> Exception | None:
        attempts.append(self)
        return connect(self, timeout)

    monkeypatch.setattr(maintenance_session, "PATIENCE", 2.0)
    monkeypatch.setattr(maintenance_session.MaintenanceSession, "_connect", counted)
    try:
        with open_stack() as stack:
            works(stack)
            held = [stack.checkout() for _ in range(4)]
            ours = stack.service.manager.session
            server.stop(signal.SIGQUIT)
            attempts.clear()
            for lent in held:
                with pytest.raises(DatabaseNotReadyError, match="did not answer within"):
                    lent.release(wait=True)
            with pytest.raises(DatabaseNotReadyError):
                stack.service.manager.template()
        assert 4 < attempts.count(ours) <= 20
    finally:
        server.start()
    with open_stack() as stack:
        works(stack)


@pytest.mark.fault("server restarted during a migration", how="SIGQUIT to the postmaster while the template is built")
def test_during_the_build(open_stack: Open, server: Server, project: Project) -> None:
    """One error that says so; the next run builds the template."""
    whole = (project.path / "schema.sql").read_text()
    project.write("schema.sql", f"{whole}select pg_sleep(60);")
    sleeps = "select 1 from pg_stat_activity where query ~ 'pg_sleep' and pid <> pg_backend_pid()"
    with open_stack() as stack, ThreadPoolExecutor() as beside:
        opening = beside.submit(stack.checkout)
        assert until(lambda: server.ask(sleeps), 60)
        server.restart()
        with pytest.raises(DatabaseNotReadyError) as caught:
            opening.result(60)
        assert caught.value.code == "connection-lost"
    project.write("schema.sql", whole)
    with open_stack() as stack:
        works(stack)

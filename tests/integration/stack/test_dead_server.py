"""A server that is slow to let go, will not drop a database, or has died, costs no test more than it must."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection

import elefast
from elefast.errors import DatabaseNotReadyError
from elefast.postgres import databases
from elefast.postgres.connections import maintenance_session
from elefast.postgres.databases import ClientSession
from elefast.postgres.urls import dsn
from elefast.providers import Lease
from elefast.providers.local.state_file import SUPERVISOR
from tests.integration.providers.provider_support import until


def test_a_backend_that_is_slow_to_go_is_no_leak(stack: elefast.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time alone does not count: on a starved machine it is over after a look or two."""
    lent = stack.checkout()
    client = psycopg.connect(lent.dsn)
    pid = client.info.backend_pid
    looks: list[int] = []
    backends = databases.client_sessions

    def watched(connection: Connection, name: str, but: int) -> Sequence[ClientSession]:
        found = backends(connection, name, but)
        looks.append(len(found))
        if len(looks) == 10:
            client.close()
            connection.exec_driver_sql(f"select pg_terminate_backend({pid}, 60000)")
        return found

    monkeypatch.setattr(databases, "client_sessions", watched)
    assert stack.service.manager.session.remaining_sessions(lent.name, 1e-9) == []
    assert looks == [1] * 10 + [0]
    lent.release()


def test_one_database_that_cannot_be_dropped_holds_up_no_other(
    stack: elefast.Stack, server_url: str, names: Callable[[], set[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Its test is named, the pool goes on, and at the end all others go."""
    stack.checkout().release(wait=True)
    lent = stack.checkout("a test")
    dsn = lent.dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create subscription stuck connection 'dbname=none' publication p with (connect = false)")
        # It would be cleared, if the database let anybody.
        connection.execute("create function no() returns event_trigger language plpgsql as 'begin raise; end'")
        connection.execute("create event trigger no on ddl_command_start execute function no()")
    other = stack.checkout("another test")
    lent.release()
    try:
        pool = stack.service.pool
        assert pool.wait_until(lambda state: state.is_quiet, 60)
        assert pool.state().size
        (leak,) = stack.service.take_leaks()
        assert (leak.test, leak.what) == ("a test", "left a database that cannot be dropped")
        assert lent.name in leak.text
        assert "subscription" in leak.text
        stack.checkout().release()
        later = stack.checkout()
        stack.close()
        assert {other.name, later.name} & names() == set()
        assert lent.name in names()
        assert f"{lent.name} was not dropped" in caplog.text
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("drop event trigger no")
            connection.execute("alter subscription stuck set (slot_name = none)")
            connection.execute("drop subscription stuck")
        with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'drop database "{lent.name}" with (force)')


def _postmaster(lease: Lease) -> int:
    return int((Path(getattr(lease, "data_dir", "")) / "postmaster.pid").read_text().split()[0])


def _supervisor(lease: Lease) -> int:
    return int((Path(getattr(lease, "data_dir", "")).parents[1] / SUPERVISOR).read_text())


def _refuses(lease: Lease) -> bool:
    try:
        psycopg.connect(dsn(lease.url)).close()
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.fault(
    "a server of elefast's own dies", how="SIGQUIT to the postmaster, or SIGKILL to its supervisor, in a run"
)
@pytest.mark.parametrize(
    ("victim", "how", "why"),
    [
        (_postmaster, signal.SIGQUIT, "PostgreSQL ended by itself; the end of its log:\n.*immediate shutdown"),
        (_supervisor, signal.SIGKILL, "the process that kept it was killed"),
    ],
    ids=["server", "supervisor"],
)
def test_a_server_that_died_is_not_waited_for(
    project: Path,
    elefast_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: Callable[[Lease], int],
    how: signal.Signals,
    why: str,
) -> None:
    """Whatever the tests after that ask for fails as soon as that is known, and so does what is done at the end."""
    env = {"_ELEFAST_ROOT": str(elefast_root)}
    make = partial(elefast.from_config, project, env=env, provider="local", local={"reuse": False})
    with make() as stack:
        for _ in range(3):
            stack.checkout().release()
        held = [stack.checkout() for _ in range(4)]
        running = stack.service
        pool = running.pool
        assert pool.wait_until(lambda state: state.is_quiet, 60)
        attempts: list[maintenance_session.MaintenanceSession] = []
        connect = maintenance_session.MaintenanceSession._connect

        def counted(self: maintenance_session.MaintenanceSession, timeout: float) -> Exception | None:
            attempts.append(self)
            return connect(self, timeout)

        monkeypatch.setattr(maintenance_session.MaintenanceSession, "_connect", counted)
        os.kill(victim(running.lease), how)
        # The server of a killed supervisor answers for some milliseconds more.
        assert until(lambda: _refuses(running.lease))
        with pytest.raises(DatabaseNotReadyError, match=f"(?s) has ended in the middle of the run: {why}"):
            held.pop().release(wait=True)
        ours = running.manager.session
        for lent in held[:2]:
            with pytest.raises(DatabaseNotReadyError, match=" has ended "):
                lent.release(wait=True)
        with pytest.raises(DatabaseNotReadyError, match=" has ended "):
            running.manager.template()
        held[2].release()
        stack.close()
        # Half a minute of patience are 60 at the least.
        assert attempts.count(ours) <= 30
    with make() as stack:
        stack.checkout().release()

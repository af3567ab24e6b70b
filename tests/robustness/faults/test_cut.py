"""Connections are cut, delayed and swallowed on their way."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

import elefast
from elefast import AsyncDatabaseServer, DatabaseServer
from elefast.errors import DatabaseNotReadyError, MigrationError
from elefast.postgres.connections import maintenance_session, watchdog
from tests.guarantees.projects.project_support import Project
from tests.integration.providers.provider_support import until
from tests.robustness.faults.conftest import Open, unkept, works
from tests.robustness.faults.proxy import Proxy
from tests.robustness.faults.server import Server

# What elefast says to a server between its start and its end: what changes something, and the rest.
CHANGES = [
    "pg_advisory_lock(",
    "TEMPLATE template0",
    "create table note",
    "ALLOW_CONNECTIONS false IS_TEMPLATE true",
    "COMMENT ON DATABASE",
    "RENAME TO",
    'TEMPLATE "elefast',
    "DROP DATABASE",
]
QUESTIONS = [
    "set_config(",
    "pg_is_in_recovery()",
    "shobj_description",
    "pg_try_advisory_lock",
    "ANALYZE",
    "pg_advisory_unlock(",
    "pg_advisory_lock_shared",
    "usesysid is not null",
]
STATEMENTS = CHANGES + QUESTIONS if os.environ.get("TEST_FAULTS_LONG") else CHANGES


@pytest.mark.fault("connections cut between tests", how="a proxy resets all connections at once, three times")
def test_between_tests(open_stack: Open, proxy: Proxy, behind: dict[str, str]) -> None:
    """The next test has a database."""
    with open_stack(**behind) as stack:
        for _ in range(3):
            works(stack)
            proxy.cut()
        works(stack)


@pytest.mark.fault("connection cut in the middle of a statement", how="a proxy resets it before or after the server")
@pytest.mark.parametrize("answer", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_in_a_statement(
    open_stack: Open, proxy: Proxy, behind: dict[str, str], project: Project, statement: str, answer: bool
) -> None:
    """It works all the same or is one error that says so; the next run works and nothing is left."""
    project.write("schema.sql", "create table note (body text);\ncreate table full_of as select 1;\n")
    proxy.strike_at(statement, answer=answer)
    said = ""
    try:
        with open_stack(ELEFAST_TEMPLATE__CACHE="false", **behind) as stack:
            works(stack)
            works(stack)
    except elefast.ElefastError as error:
        said = str(error)
    assert not said or "connection" in said
    assert proxy.struck == 1
    with open_stack(ELEFAST_TEMPLATE__CACHE="false", **behind) as stack:
        works(stack)


@pytest.mark.fault("connection cut in the middle of a failing migration", how="a proxy swallows the answer to RENAME")
def test_in_a_failing_build(open_stack: Open, proxy: Proxy, behind: dict[str, str], project: Project) -> None:
    """It is the migration's error that is told."""
    project.write("schema.sql", "create table note (body tex);")
    proxy.strike_at("RENAME TO", answer=True)
    with open_stack(**behind) as stack, pytest.raises(MigrationError, match='type "tex" does not exist'):
        stack.checkout()
    assert proxy.struck == 1


@pytest.mark.fault("connection cut while a database is kept", how="a proxy swallows the answer to RENAME")
def test_while_keeping(open_stack: Open, proxy: Proxy, behind: dict[str, str], server: Server) -> None:
    """It is kept, and the summary has its name."""
    with open_stack(**behind) as stack:
        works(stack)
        lent = stack.checkout("kept")
        proxy.strike_at("RENAME TO", answer=True)
        lent.release(keep="always")
        (kept,) = stack.report().kept
    assert proxy.struck == 1
    assert kept.name in server.names()
    server.ask(f'drop database "{kept.name}"')


@pytest.mark.fault("a slow network", how="a proxy holds each piece of data for 5 ms")
def test_delays(open_stack: Open, proxy: Proxy, behind: dict[str, str]) -> None:
    """It takes longer."""
    proxy.delay = 0.005
    with open_stack(**behind) as stack:
        works(stack)
        works(stack)


@pytest.mark.fault("a server that accepts and never answers", how="a proxy takes connections and swallows all data")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_half_open(server: Server, proxy: Proxy, driver: str) -> None:
    """An error in the time that was given, also with drivers that would wait for ever."""
    proxy.silent = True
    url = server.url.set(port=proxy.port, drivername=f"postgresql+{driver}")
    with pytest.raises(DatabaseNotReadyError, match=rf"127\.0\.0\.1:{proxy.port}.* did not answer within") as caught:
        DatabaseServer(url).ensure_is_ready(1, 0.2)
    assert not re.search(server.url.password or "", str(caught.value))


@pytest.mark.fault("a server that accepts and never answers", how="a proxy that swallows all data, and an async engine")
def test_half_open_async(server: Server, proxy: Proxy) -> None:
    """An error in the time that was given."""
    proxy.silent = True
    url = server.url.set(port=proxy.port, drivername="postgresql+asyncpg")
    with pytest.raises(DatabaseNotReadyError, match="did not answer within"):
        asyncio.run(AsyncDatabaseServer(create_async_engine(url)).ensure_is_ready(1, 0.2))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is looked at after half a second."""
    monkeypatch.setattr(watchdog, "_watchdogs", [watchdog.Watchdog()])
    monkeypatch.setattr(watchdog, "PATIENCE", 0.5)
    monkeypatch.setattr(watchdog, "INTERVAL", 0.1)


@pytest.mark.fault("connections that are open and carry nothing any more", how="a proxy swallows what comes over them")
def test_swallowed(
    open_stack: Open, proxy: Proxy, behind: dict[str, str], impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The next test has a database, over a new connection."""
    with open_stack(ELEFAST_POOL__SIZE="0", **behind) as stack:
        works(stack)
        proxy.swallow()
        works(stack)
    assert "the server does not work on one (idle)" in caplog.text


@pytest.mark.fault("a network that carries nothing any more", how="a proxy swallows all data of all connections")
def test_all_swallowed(
    open_stack: Open, proxy: Proxy, behind: dict[str, str], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in a time that has an end, and so has the end of the run."""
    monkeypatch.setattr(maintenance_session, "PATIENCE", 1.0)
    monkeypatch.setattr(watchdog, "PROBE", 1.0)
    with open_stack(ELEFAST_POOL__SIZE="0", **behind) as stack:
        works(stack)
        proxy.silent = True
        with pytest.raises(DatabaseNotReadyError, match="did not answer within"):
            stack.checkout()


def _sleep(connection: Connection) -> object:
    return connection.exec_driver_sql("select 1 from pg_sleep(1.2)").scalar()


def test_a_long_statement_is_waited_for(open_stack: Open, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    """As long as the server works on it."""
    with open_stack() as stack:
        for _ in range(2):
            works(stack)
        assert stack.service.manager.session.call(_sleep) == 1
    assert "no answer" not in caplog.text


def _keepalives(connection: Connection) -> list[str]:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    return [str(connection.exec_driver_sql(f"show {name}").scalar()) for name in names]


def test_a_machine_that_is_gone(open_stack: Open) -> None:
    """Its server notices in half a minute, and lets go of the locks that were its sign of life."""
    with open_stack() as stack:
        works(stack)
        assert stack.service.manager.session.call(_keepalives) == ["15", "5", "3", "30000"]


@pytest.fixture
def elsewhere(server: Server) -> Iterator[str]:
    """The URL of the server at an address that is not the client's."""
    if sys.platform != "linux":
        pytest.skip("only Linux has more than one loopback address")
    server.restart(listen_addresses="127.0.0.1,127.0.0.2")
    yield server.url.set(host="127.0.0.2").render_as_string(hide_password=False)
    server.restart()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_tests_of_a_machine_that_is_gone(open_stack: Open, elsewhere: str, driver: str) -> None:
    """The server notices as soon of its tests' sessions, in new databases and in such that were put back."""
    with open_stack(ELEFAST_ENGINE__URL=elsewhere.replace("psycopg", driver)) as stack:
        for _ in range(4):
            lent = stack.checkout()
            with lent.sync.engine.connect() as connection:
                assert _keepalives(connection) == ["15", "5", "3", "30000"]
            lent.release()
        assert until(lambda: len(stack.report().restore), 30)


def test_tests_on_the_servers_machine(open_stack: Open, server: Server) -> None:
    """Their databases have no settings of elefast's."""
    with open_stack() as stack:
        works(stack)
        assert server.ask("select * from pg_db_role_setting") == []


@pytest.mark.fault("connections refused for a while", how="a proxy resets each new connection, three times")
def test_refused_for_a_while(open_stack: Open, proxy: Proxy, behind: dict[str, str]) -> None:
    """The next test waits until one gets through."""
    with open_stack(**behind) as stack:
        works(stack)
        proxy.refuse(3)
        proxy.cut()
        works(stack)


@pytest.mark.fault("connections cut at random moments", how="a proxy resets all connections at once, again and again")
def test_at_random(
    open_stack: Open,
    proxy: Proxy,
    behind: dict[str, str],
    server: Server,
    record_property: Callable[[str, object], None],
) -> None:
    """Tests fail by their own connection or with an error of elefast's; when it is over, the next one works."""
    rounds = 400 if os.environ.get("TEST_FAULTS_LONG") else 15
    dice = random.Random(int(os.environ.get("TEST_FAULTS_SEED", "1")))
    cuts, over = 0, threading.Event()

    def cut() -> None:
        nonlocal cuts
        while not over.wait(dice.uniform(0.01, 0.3)):
            proxy.cut()
            cuts += 1

    with ThreadPoolExecutor() as beside, open_stack(**behind) as stack:
        cutting = beside.submit(cut)
        try:
            for _ in range(rounds):
                with suppress(elefast.ElefastError):
                    lent = stack.checkout()
                    with suppress(DBAPIError), lent.sync.engine.begin() as connection:
                        connection.exec_driver_sql("insert into note values ('a')")
                        time.sleep(dice.uniform(0, 0.1))
                    lent.release()
        finally:
            over.set()
            cutting.result(10)
        for _ in range(4):
            works(stack)
    assert cuts
    record_property("times", cuts)
    with open_stack() as stack:
        works(stack)
    assert unkept(server) == []

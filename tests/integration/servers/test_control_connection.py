"""A connection of elefast's own that is at its end."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import Pool

from elefast.postgres.connections.connectors import connectors_to
from elefast.postgres.connections.control_connection import LostConnectionError
from elefast.postgres.server import configure_session
from elefast.postgres.sql import scalar
from elefast.postgres.urls import dsn

Query = Callable[[str], list[tuple[object, ...]]]


def test_it_is_closed_without_a_word(sync_url: URL, query: Query) -> None:
    """Whatever the driver thinks of that, nobody could do anything about it; nor is a socket left to the collector."""
    (connector, *_) = connectors_to(create_engine(sync_url))
    opened = connector(lambda connection: configure_session(connection, "elefast ended"))
    opened.open(30)
    ended = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = 'elefast ended'"
    assert query(ended) == [(True,)]
    opened.close()
    assert not opened.is_open
    gc.collect()


@pytest.mark.fault("the driver does not say that its connection is lost", how="psycopg's is left within a statement")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_a_connection_in_the_middle_of_a_statement_is_lost(server_url: str, driver: str) -> None:
    """Where its socket closes at the wrong moment, psycopg neither says so nor can anything else be run on it."""
    url = make_url(server_url).set(drivername=f"postgresql+{driver}")
    engine = create_async_engine(url).sync_engine if driver == "psycopg_async" else create_engine(url)
    (connector, *_) = connectors_to(engine)
    opened = connector(lambda connection: configure_session(connection, "elefast left"))
    opened.open(30)

    def leave(connection: Connection) -> object:
        driver: Any = connection.connection.driver_connection
        driver.pgconn.send_query(b"select pg_sleep(0)")
        return scalar(connection, "select 1")

    with pytest.raises(LostConnectionError, match="another command is already in progress"):
        opened.call(leave)
    assert not opened.is_open
    opened.open(30)
    assert opened.call(lambda connection: scalar(connection, "select 1")) == 1
    opened.close()


@pytest.mark.fault(
    "an interrupt in a statement", how="KeyboardInterrupt while an async connection waits for pg_sleep(600)"
)
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
def test_an_interrupt_ends_the_statement(server_url: str, driver: str, query: Query) -> None:
    """Its own event loop would go on with it, and the next call would find the connection in use."""
    (connector, *_) = connectors_to(
        create_async_engine(make_url(server_url).set(drivername=f"postgresql+{driver}")).sync_engine
    )
    opened = connector(lambda connection: configure_session(connection, "elefast interrupted"))
    opened.open(30)
    sleeps = "select pid from pg_stat_activity where application_name = 'elefast interrupted' and state = 'active'"

    def interrupt(*_: object) -> None:
        if query(sleeps):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            opened.call(lambda connection: scalar(connection, "select pg_sleep(600)"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not opened.is_open
    opened.open(30)
    assert opened.call(lambda connection: scalar(connection, "select 1")) == 1
    opened.close()
    deadline = time.monotonic() + 60
    while query(sleeps):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What listeners on SQLAlchemy's classes hear; each of them would break a connection of elefast's own."""
    heard: list[str] = []

    def of_a_driver(connection: Any, *_: object) -> None:
        heard.append("a driver")
        cursor = connection.cursor()
        cursor.execute("SET timezone TO 'UTC'")
        cursor.close()

    def of_sqlalchemy(connection: Connection, *_: object) -> None:
        heard.append("a connection")
        connection.exec_driver_sql("SET timezone TO 'UTC'")

    def of_a_dialect(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        heard.append("a dialect")
        keywords["port"] = 1

    added: list[tuple[Any, str, Callable[..., None]]] = [
        (Engine, "connect", of_a_driver),
        (Pool, "checkout", of_a_driver),
        (Engine, "engine_connect", of_sqlalchemy),
        (Connection, "begin", of_sqlalchemy),
        (Engine, "do_connect", of_a_dialect),
    ]
    for target, name, listener in added:
        event.listen(target, name, listener)
    yield heard
    for target, name, listener in added:
        event.remove(target, name, listener)


def test_listeners_on_classes_hear_nothing_of_it(server_url: str, sync_url: URL, heard: list[str]) -> None:
    """Whatever elefast was given: a URL, an engine, an engine with a creator, an engine of an async driver."""
    targets: list[Engine | URL] = [
        sync_url,
        create_engine(sync_url),
        create_engine(sync_url.set(database="template1")),
        create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn(sync_url))),
        create_async_engine(make_url(server_url).set(drivername="postgresql+asyncpg")).sync_engine,
        create_async_engine(make_url(server_url).set(drivername="postgresql+psycopg")).sync_engine,
    ]
    for target in targets:
        for connector in connectors_to(target):
            opened = connector(lambda connection: configure_session(connection, "elefast unheard"))
            opened.open(30)
            assert opened.call(lambda connection: scalar(connection, "select 1")) == 1
            opened.close()
    assert heard == []


def test_listeners_of_a_given_engine_act_on_it(sync_url: URL) -> None:
    """A token that they put in lets elefast in as well, and SQL that they run does not hold it up."""
    engine = create_engine(sync_url.set(password="wrong"))
    heard: list[str] = []

    @event.listens_for(engine, "do_connect")
    def put_password_in(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        heard.append("do_connect")
        keywords["password"] = sync_url.password

    @event.listens_for(engine, "connect")
    def set_timezone(connection: Any, record: Any) -> None:
        heard.append("connect")
        cursor = connection.cursor()
        cursor.execute("SET application_name TO 'of its own'")
        cursor.close()

    for connector in connectors_to(engine):
        opened = connector(lambda connection: None)
        opened.open(30)
        assert opened.call(lambda connection: scalar(connection, "show application_name")) == "of its own"
        opened.close()
    assert heard == ["do_connect", "connect"] * len(connectors_to(engine))

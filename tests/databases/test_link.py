"""A connection of elefast's own that is at its end."""

from __future__ import annotations

import gc
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from elefast import backing, stack
from elefast.backing import links_to
from elefast.kernel.server import prepare
from elefast.kernel.sql import scalar
from elefast.link import LostConnectionError

Query = Callable[[str], list[tuple[object, ...]]]


def test_it_is_closed_without_a_word(sync_url: URL, query: Query) -> None:
    """Whatever the driver thinks of that, nobody could do anything about it; nor is a socket left to the collector."""
    (link, *_) = links_to(create_engine(sync_url))
    opened = link(lambda connection: prepare(connection, "elefast ended"))
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
    (link, *_) = links_to(engine)
    opened = link(lambda connection: prepare(connection, "elefast left"))
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


@pytest.mark.fault("an interrupt in a statement", how="KeyboardInterrupt while an async link waits for pg_sleep(600)")
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
def test_an_interrupt_ends_the_statement(server_url: str, driver: str, query: Query) -> None:
    """Its own event loop would go on with it, and the next call would find the connection in use."""
    (link, *_) = links_to(create_async_engine(make_url(server_url).set(drivername=f"postgresql+{driver}")).sync_engine)
    opened = link(lambda connection: prepare(connection, "elefast interrupted"))
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


@pytest.mark.parametrize("take", [backing._close_retired, stack._stop_retired])
def test_what_goes_wrong_at_the_end_is_seen(take: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """An IndexError of what is closed is a mistake, and not the end of the queue that it was in."""

    class Broken:
        """Stands in for what cannot be closed."""

        def close(self) -> None:
            raise IndexError("a mistake")

        stop = close

    for module in (backing, stack):
        monkeypatch.setattr(module, "_retired", deque([Broken()]))
    with pytest.raises(IndexError, match="a mistake"):
        take()

"""A connection of elefast's own to a server's maintenance database, over a sync or an async driver.

A link runs one piece of work at a time, from any thread, and says when the connection was lost.
It knows nothing of databases and templates; what to do on a fresh connection is `setup`.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from elefast.runtime import clock, event_loops
from elefast.runtime.process_lifetime import on_fork

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["AsyncControlConnection", "ControlConnection", "LostConnectionError", "SyncControlConnection"]

T = TypeVar("T")

_LAST_WORDS = 5.0
"""Seconds that what a driver has begun by itself may take to come to an end."""


class LostConnectionError(Exception):
    """The connection broke; the next call opens another one."""


class ControlConnection(Protocol):
    """One connection, opened when it is first needed and again after it was lost."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        ...

    @property
    def is_quiet(self) -> bool:
        """Whether the server has sent nothing that nobody asked for, as it does when it ends a session."""
        ...

    def open(self, timeout: float) -> None:
        """Connect and set the session up, in `timeout` seconds at the most."""
        ...

    def call(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the open connection.

        Raises:
            LostConnectionError: The connection broke meanwhile; how far the work went is unknown.
        """
        ...

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        ...


class SyncControlConnection:
    """A link over an engine.

    Args:
        engine: In autocommit mode, and used by nobody else.
        setup: Run once on each fresh connection.
    """

    def __init__(self, engine: Engine, setup: Callable[[Connection], None]) -> None:
        self._engine = engine
        self._setup = setup
        self._connection: Connection | None = None
        self._since = 0.0
        _links.add(self)

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def is_quiet(self) -> bool:
        driver = self.driver
        if driver is None or driver.closed or not hasattr(driver, "fileno"):
            return False
        try:
            return not select.select([driver], [], [], 0)[0]
        except (OSError, ValueError):  # select knows no descriptors beyond 1023
            return False

    def open(self, timeout: float) -> None:
        # Not every driver can limit the time of connecting, so the limit is kept outside.
        opened: Future[Connection] = Future()

        def connect() -> None:
            connection: Connection | None = None
            error: BaseException | None = None
            try:
                connection = self._engine.connect()
                self._setup(connection)
            except BaseException as raised:
                error = raised
            wanted = opened.set_running_or_notify_cancel()
            if connection is not None and (error is not None or not wanted):
                _end(connection)
            if wanted and error is not None:
                opened.set_exception(error)
            elif wanted and connection is not None:
                opened.set_result(connection)

        threading.Thread(target=connect, name="elefast-connect", daemon=True).start()
        try:
            self._connection = opened.result(timeout)
        except TimeoutError:
            if opened.cancel():
                raise TimeoutError(f"no connection within {timeout:g} s") from None
            self._connection = opened.result()  # at the last moment
        except BaseException:
            # Interrupted: nobody will have it.
            if not opened.cancel() and opened.exception() is None:
                _end(opened.result())
            raise

    def call(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            raise LostConnectionError
        self._since = clock.now()
        try:
            return work(self._connection)
        except BaseException as error:
            # An interrupt in the middle of a query ends the connection, too.
            if _is_lost(self._connection):
                self.close()
                if isinstance(error, SQLAlchemyError):
                    raise LostConnectionError(_cause(error)) from error
            raise
        finally:
            self._since = 0.0

    @property
    def engine(self) -> Engine:
        """What it connects with."""
        return self._engine

    @property
    def since(self) -> float:
        """When the call began that goes on now, as `clock.now()` has it; 0 where there is none."""
        return self._since

    @property
    def driver(self) -> Any:
        """The driver's own connection; None where there is none."""
        return None if self._connection is None else _driver_of(self._connection)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _end(connection)
        self._engine.dispose()

    def abandon(self) -> None:
        """Forget the connection without a word to the server; for a forked child, whose parent goes on with it.

        Whatever closes it later, a finalizer or the end of the process, says goodbye to nobody.
        """
        connection, self._connection = self._connection, None
        driver = None if connection is None else _driver_of(connection)
        if driver is not None and hasattr(driver, "fileno") and not driver.closed:
            nobody = os.open(os.devnull, os.O_RDWR)
            os.dup2(nobody, driver.fileno())
            os.close(nobody)


class AsyncControlConnection:
    """A link over an async engine, driven by an event loop in a thread of its own.

    Thus it never touches a loop of the user's, and works the same from any of them and from none.

    Args:
        engine: In autocommit mode, and used by nobody else.
        setup: Run once on each fresh connection.
    """

    def __init__(self, engine: AsyncEngine, setup: Callable[[Connection], None]) -> None:
        self._engine = engine
        self._setup = setup
        self._connection: AsyncConnection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def is_quiet(self) -> bool:
        return False  # only its own event loop could tell

    def open(self, timeout: float) -> None:
        self._connection = self._run(asyncio.wait_for(self._open(), timeout))

    def call(self, work: Callable[[Connection], T]) -> T:
        connection = self._connection
        if connection is None:
            raise LostConnectionError
        try:
            return self._run(connection.run_sync(work))
        except BaseException as error:
            interrupted = not isinstance(error, Exception)
            if interrupted or connection.sync_connection is None or _is_lost(connection.sync_connection):
                self.close()
                if isinstance(error, SQLAlchemyError):
                    raise LostConnectionError(_cause(error)) from error
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        loop = self._loop
        if loop is None:
            return
        self._run(self._close(connection))
        self._loop = None
        loop.call_soon_threadsafe(loop.stop)

    async def _open(self) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            await connection.run_sync(self._setup)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _close(self, connection: AsyncConnection | None) -> None:
        if connection is not None:
            await connection.close()
        await self._engine.dispose()
        # Of what was interrupted, asyncpg asks the server for an end, over a connection that it closes itself.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_LAST_WORDS)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        if loop is None:
            loop = event_loops.new_event_loop()
            try:
                threading.Thread(target=_serve, args=(loop,), name="elefast-async", daemon=True).start()
            except RuntimeError:  # the interpreter is about to end
                work.close()
                loop.close()
                raise
            self._loop = loop
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # where we are interrupted, and it goes on
            raise


_links: weakref.WeakSet[SyncControlConnection] = weakref.WeakSet()


@on_fork
def _after_fork() -> None:
    for link in list(_links):
        link.abandon()


def _driver_of(connection: Connection) -> Any:
    """The driver's own connection; None where there is none any more."""
    return None if connection.closed or connection.invalidated else connection.connection.driver_connection


def _end(connection: Connection) -> None:
    """Close it, also where its server is gone."""
    driver = _driver_of(connection)
    try:
        connection.close()
    except Exception:  # over pg8000, SQLAlchemy asks the server for something before
        with suppress(Exception):
            driver.close()


def _is_lost(connection: Connection) -> bool:
    """Whether `connection` is of no use any more, after an error.

    psycopg takes a socket that was closed at the wrong moment for an error like any other (one in 3000 of those
    that the server ends): its connection is neither closed nor broken, and its statement goes on for ever.
    """
    if connection.invalidated:
        return True
    driver: Any = connection.connection.driver_connection
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    return getattr(status, "name", "") == "ACTIVE"


def _cause(error: BaseException) -> str:
    """What the driver said when the connection broke, also where something else failed because of that."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DBAPIError):
            return str(seen.orig)
        seen = seen.__cause__ or seen.__context__
    return str(error)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()

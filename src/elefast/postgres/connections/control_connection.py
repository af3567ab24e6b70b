"""One connection of elefast to a server's maintenance database, over a sync or an async driver.

A control connection runs one function at a time, from any thread, and reports when the connection was lost.
It must not know databases and templates: `setup` prepares each new connection.
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

_CLEANUP_TIMEOUT = 5.0
"""Seconds that the tasks which a driver has started may take to end."""


class LostConnectionError(Exception):
    """The connection broke; `open` makes another one."""


class ControlConnection(Protocol):
    """One connection, which can be opened again after it was lost."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        ...

    @property
    def is_quiet(self) -> bool:
        """Whether the server has sent nothing unasked, as it does when it ends a session."""
        ...

    def open(self, timeout: float) -> None:
        """Connect and set the session up, in at most `timeout` seconds.

        Raises:
            TimeoutError: It took longer.
        """
        ...

    def call(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the open connection.

        Raises:
            LostConnectionError: The connection broke during the work. How far the work went is unknown.
        """
        ...

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        ...


class SyncControlConnection:
    """A control connection over a sync engine.

    Args:
        engine: An engine in autocommit mode that has no other user.
        setup: Called once with each new connection.
    """

    def __init__(self, engine: Engine, setup: Callable[[Connection], None]) -> None:
        self._engine = engine
        self._setup = setup
        self._connection: Connection | None = None
        self._since = 0.0
        _sync_connections.add(self)

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
        except (OSError, ValueError):  # select() refuses descriptors above 1023
            return False

    def open(self, timeout: float) -> None:
        # Not every driver has a connect timeout, so a thread connects and this one waits for it.
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
            self._connection = opened.result()  # it came at the last moment
        except BaseException:
            # An interrupt: this call will not return the connection, so close it.
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
            # An interrupt in the middle of a query breaks the connection as well.
            if _is_lost(self._connection):
                self.close()
                if isinstance(error, SQLAlchemyError):
                    raise LostConnectionError(_cause(error)) from error
            raise
        finally:
            self._since = 0.0

    @property
    def engine(self) -> Engine:
        """The engine that it connects with."""
        return self._engine

    @property
    def since(self) -> float:
        """When the running call began, by `clock.now()`; 0 where no call is running."""
        return self._since

    @property
    def driver(self) -> Any:
        """The connection object of the driver; None where there is none."""
        return None if self._connection is None else _driver_of(self._connection)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _end(connection)
        self._engine.dispose()

    def abandon(self) -> None:
        """Forget the connection without closing it on the server, because the parent of this process still uses it.

        Its descriptor now leads to ``/dev/null``, so a later finalizer cannot send a goodbye to the server either.
        """
        connection, self._connection = self._connection, None
        driver = None if connection is None else _driver_of(connection)
        if driver is not None and hasattr(driver, "fileno") and not driver.closed:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, driver.fileno())
            os.close(null)


class AsyncControlConnection:
    """A control connection over an async engine, with an event loop in a separate thread.

    So it never uses an event loop of the application, and works alike with and without one.

    Args:
        engine: An engine in autocommit mode that has no other user.
        setup: Called once with each new connection.
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
        return False  # only the event loop could look at the socket

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
        # asyncpg asks the server to cancel an interrupted statement over another connection, and closes that itself.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_CLEANUP_TIMEOUT)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        if loop is None:
            loop = event_loops.new_event_loop()
            try:
                threading.Thread(target=_serve, args=(loop,), name="elefast-async", daemon=True).start()
            except RuntimeError:  # the interpreter is shutting down
                work.close()
                loop.close()
                raise
            self._loop = loop
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # this thread was interrupted, but the work would continue
            raise


_sync_connections: weakref.WeakSet[SyncControlConnection] = weakref.WeakSet()


@on_fork
def _after_fork() -> None:
    for connection in list(_sync_connections):
        connection.abandon()


def _driver_of(connection: Connection) -> Any:
    """The connection object of the driver; None where it is gone."""
    return None if connection.closed or connection.invalidated else connection.connection.driver_connection


def _end(connection: Connection) -> None:
    """Close `connection`, also where its server is gone."""
    driver = _driver_of(connection)
    try:
        connection.close()
    except Exception:  # with pg8000, SQLAlchemy sends a statement before it closes
        with suppress(Exception):
            driver.close()


def _is_lost(connection: Connection) -> bool:
    """Whether `connection` cannot be used any more, after an error.

    psycopg does not always notice that the server closed the socket (it missed one in 3000 closed by the server):
    the connection is neither closed nor broken then, and its statement stays active for ever.
    """
    if connection.invalidated:
        return True
    driver: Any = connection.connection.driver_connection
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    return getattr(status, "name", "") == "ACTIVE"


def _cause(error: BaseException) -> str:
    """The driver's message about the broken connection, also where a later error hides it."""
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

"""The transaction of one test: begun at its first statement, rolled back at its end, on one connection.

It knows a connection of SQLAlchemy's, sync or async, and that only one may use it at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy import Connection

from elefast.errors import RefusedError
from elefast.isolation.lasting_effects import may_last
from elefast.isolation.savepoints import OWN_DATABASE, SavepointStack, SessionScope
from elefast.postgres import driver_errors
from elefast.runtime.process_lifetime import OwnerProcess

__all__ = ["ConnectionSource", "OuterTransaction"]

_MARK = "elefast_outer"
"""A savepoint at the very beginning: where it is gone in the end, somebody has ended the transaction."""

# No such savepoint; no transaction.
_GONE = {"3B001", "25P01"}
# By which of two errors the last words say what is wrong: a division by zero, the root of a negative number.
_WRITTEN, _SLOT = "22012", "2201F"


class ConnectionSource(Protocol):
    """Where the connection comes from, and what it must look like afterwards."""

    def open(self, kind: str) -> Connection:
        """The connection for ``sync`` or ``async`` use, in the driver's autocommit mode."""
        ...

    def shut(self, kind: str, connection: Connection) -> None:
        """Be done with the connection of an ended transaction."""
        ...

    def begin(self) -> str:
        """The statement that begins a transaction."""
        ...

    def check(self) -> str:
        """A condition in SQL that holds as long as nobody else was in the database; empty where there is none."""
        ...

    def no_slots(self) -> str:
        """One that holds as long as the database has no replication slot, which no transaction rolls back; empty
        where it cannot have one."""
        ...


class OuterTransaction:
    """The transaction of one test.

    Args:
        test: The node id of the test.
        source: Gives the connection.
    """

    def __init__(self, test: str, source: ConnectionSource) -> None:
        self._test = test
        self._source = source
        self._owner = OwnerProcess()
        self._guard = threading.Lock()
        self._user = ""
        self._connection: Connection | None = None
        self._driver: Any = None
        self._unprepared: dict[str, bool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tenancy: AsyncGenerator[None] | None = None
        self._releasing = False
        self.kind = ""
        """``sync`` or ``async``, once one of them is asked for."""
        self.over = ""
        """Why there is nothing to use any more; empty during the test."""
        self.lost = ""
        """What became of the transaction against elefast's will; empty where all is well."""
        self.checked = False
        """Whether the source's check held at the end of the test; a loop may end the transaction before it."""
        self.renews = False
        """Whether the session may have something that no rollback undoes, so that no other test may have it."""
        self.frames = SavepointStack(self._send, lambda: f"{source.begin()}; SAVEPOINT {_MARK}; ")

    def claim(self, kind: str) -> None:
        """Use it from ``sync`` or from ``async`` code.

        Raises:
            RefusedError: It is used from the other kind already.
        """
        self.kind = self.kind or kind
        if self.kind != kind:
            raise RefusedError(
                'with isolation = "transaction" a test uses either sync or async sessions, since each kind would '
                f"have a connection of its own; this one has {self.kind} ones already.\n"
                f"Keep to the fixtures db* or to async_db*, or {OWN_DATABASE}",
                code="sync-and-async",
            )

    def opened(self, kind: str) -> Any:
        """The driver's connection as SQLAlchemy knows it, opened if need be.

        Raises:
            RefusedError: The test is over, or this is another event loop or process than the one it was opened in.
        """
        if self._is_parents:
            raise RefusedError(_FORKED, code="second-connection")
        if self.over:
            raise RefusedError(
                self.over, code="transaction-other-loop" if self.over == _OTHER_LOOP else "transaction-over"
            )
        self.claim(kind)
        loop = asyncio.get_running_loop() if kind == "async" else None
        if self._driver is None:
            with self.using():
                self._open(kind, loop)
        elif loop is not self._loop:
            raise RefusedError(_OTHER_LOOP, code="transaction-other-loop")
        return self._driver

    def _open(self, kind: str, loop: asyncio.AbstractEventLoop | None) -> None:
        if self._driver is None:
            self._connection = self._source.open(kind)
            self._driver = self._connection.connection.dbapi_connection
            self._loop = loop
            if kind == "sync" and self._connection.dialect.driver == "psycopg":
                # It would prepare what it sees often, and give that up at each rollback; both are round trips.
                self._unprepared = {"prepare": False}
            if loop is not None:
                self._stay_until_loop_ends()

    @contextmanager
    def using(self) -> Generator[None]:
        """While a statement is executed.

        Raises:
            RefusedError: Another one is being executed.
        """
        user = _user()
        if not self._guard.acquire(blocking=False):
            raise RefusedError(
                f"{self._user} and {user} use the database at once, and with isolation = "
                '"transaction" a test has one connection.\n'
                f"Let one wait for the other, or {OWN_DATABASE}",
                code="concurrent-use",
            )
        self._user = user
        try:
            yield
        finally:
            self._guard.release()

    @contextmanager
    def executing(self, frame: SessionScope, statement: str) -> Generator[None]:
        """While `frame` executes `statement`.

        Raises:
            RefusedError: That would not be isolated from the other frames, or the transaction is gone.
        """
        with self.using():
            self._enter(frame, statement)
            try:
                yield
            except Exception as error:
                frame.failed = bool(driver_errors.sqlstate(error))
                raise
            frame.failed = False

    def enter(self, kind: str, frame: SessionScope, statement: str) -> None:
        """As `executing`, for what elefast cannot see the end of."""
        self.opened(kind)
        with self.using():
            self._enter(frame, statement)

    def end(self, frame: SessionScope, *, commit: bool) -> None:
        """Commit or roll back `frame`; nothing happens once the transaction is gone.

        Raises:
            RefusedError: That would not be isolated from the other frames.
        """
        if self.over or self.lost or self._is_parents:
            frame.clear()
            return
        with self.using():
            try:
                (self.frames.commit if commit else self.frames.rollback)(frame)
            except Exception as error:
                if self._is_gone(error):
                    return
                if not self.frames.lenient:
                    raise
                self.lose(f"left its connection broken: {driver_errors.driver_message(error)}")

    def lose(self, why: str) -> None:
        """The connection is of no use any more."""
        self.lost = self.lost or why

    def release(self) -> None:
        """Roll back and be done; never raises, `lost` says what was not as it should be."""
        self._releasing = True
        if self._is_parents:
            return
        loop, tenancy = self._loop, self._tenancy
        try:
            if loop is None or tenancy is None:
                self._finish()
            elif not loop.is_closed():
                # What was opened in a loop is closed in it; its fixtures are done by now, and it still is there.
                ending: Any = tenancy.aclose()
                if loop.is_running():
                    asyncio.run_coroutine_threadsafe(ending, loop).result(timeout=10)
                else:
                    loop.run_until_complete(ending)
        except Exception as error:
            self.lose(f"could not end its transaction: {driver_errors.driver_message(error)}")
        if not self.over:
            self.lose("closed the event loop of its connection, and left that open")
        self.over = _over(self._test)

    @property
    def _is_parents(self) -> bool:
        """Whether this is a forked child: what it would say on the connection, its parent would have the answer to."""
        return not self._owner.is_current

    def _finish(self) -> None:
        """Roll back, see whether all is well, and let go of the connection."""
        connection = self._connection
        if not self.over and not self._is_parents and connection is not None and self._driver is not None:
            try:
                if not self._guard.acquire(blocking=False):
                    self.lose(f"left a statement running, in {self._user}")
                if not self.lost:
                    self._send(self._last_words())
                    self.checked = self._releasing
            except Exception as error:
                state = driver_errors.sqlstate(error)
                if state == _WRITTEN:
                    self.lose(_ANOTHER)
                elif state == _SLOT:
                    self.lose("left a replication slot, which is part of no transaction")
                elif not self._is_gone(error):
                    self.lose(f"left its connection broken: {driver_errors.driver_message(error)}")
            finally:
                self._source.shut(self.kind, connection)
        self.over = self.over or (_over(self._test) if self._releasing else _OTHER_LOOP)

    def _last_words(self) -> str:
        words = "SELECT pg_advisory_unlock_all()"
        if self.frames.begun:
            # Rolling back gives back rows, schema and settings; sequences' values in the session it does not.
            words = f"ROLLBACK TO SAVEPOINT {_MARK}; ROLLBACK; DISCARD SEQUENCES; {words}"
        if condition := self._source.check():
            # An error is the one answer that all drivers have for several statements at once.
            words += f", 1 / CASE WHEN {condition} THEN 1 ELSE 0 END"
        if condition := self._source.no_slots():
            words += f", sqrt(CASE WHEN {condition} THEN 1 ELSE -1 END)"
        return words

    def _send(self, statements: str) -> None:
        driver = self.opened(self.kind)
        if self.kind == "async":
            # Past the dialect, which prepares every statement, and so cannot send two at once.
            execute: Callable[[Any], Any] = lambda raw: raw.execute(statements)  # noqa: E731  a def would need the driver's types
            driver.run_async(execute)
            return
        cursor = driver.cursor()
        try:
            cursor.execute(statements, **self._unprepared)
        finally:
            cursor.close()

    def _stay_until_loop_ends(self) -> None:
        """Let the loop end the transaction if it ends before the test does: it closes its asynchronous generators."""
        from sqlalchemy.util import await_only, greenlet_spawn

        async def stay() -> AsyncGenerator[None]:
            try:
                yield
            finally:
                await greenlet_spawn(self._finish)

        self._tenancy = stay()
        begun: Any = anext(self._tenancy)
        await_only(begun)

    def _enter(self, frame: SessionScope, statement: str) -> None:
        # Code that uses the driver's connection directly may change it as well.
        self.renews = self.renews or may_last(statement)
        try:
            self._check_there()
            self.frames.enter(frame, statement)
        except Exception as error:
            if self._is_gone(error):
                self._check_there()
            raise

    def _check_there(self) -> None:
        if self.lost:
            raise RefusedError(
                f"the transaction of this test is gone: it {self.lost}.\nDo without, or {OWN_DATABASE}",
                code="transaction-over",
            )

    def _is_gone(self, error: BaseException) -> bool:
        if driver_errors.sqlstate(error) in _GONE and not isinstance(error, RefusedError):
            self.lose("ended the transaction that it was in, with a COMMIT or ROLLBACK of its own")
            return True
        return False


_ANOTHER = (
    "was not alone: another session was connected to the database that all tests share, or pg_stat_reset() hides "
    "whether one was"
)
_OTHER_LOOP = (
    'with isolation = "transaction" a test has one connection, and that was opened in another event loop than the '
    "one that it is used in now.\n"
    "Keep one loop during the test (`with TestClient(app) as client`, or an async test and an async client; "
    f"fixtures of the test's own loop scope), or {OWN_DATABASE}"
)

_FORKED = (
    'with isolation = "transaction" a test has one connection, and a process that was forked during the test cannot '
    f"share it.\nLet the test's own process do the work, or {OWN_DATABASE}"
)


def _over(test: str) -> str:
    return f"the transaction of {test or 'this test'} is over, and what it left has no connection any more"


def _user() -> str:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return f"thread {threading.current_thread().name}" if task is None else f"task {task.get_name()}"

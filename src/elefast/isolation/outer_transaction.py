"""The transaction of one test, on one connection, with a savepoint for the transaction of each session.

The test's transaction begins with its first statement and is rolled back when the test ends. What a session takes for
its own transaction is a savepoint inside of it. PostgreSQL nests savepoints, but sessions begin and end in any order.
So `SavepointStack` notes which session wrote since its savepoint was set, and refuses what would undo or keep the
writes of another session. `OuterTransaction` owns the connection and refuses uses that would leave the transaction.

SQLAlchemy's recipe, a session bound to a connection with ``join_transaction_mode="create_savepoint"``, cannot serve
here. It ends savepoints in the order of nesting only, fires the events of savepoints instead of those of commits, and
does not cover code that uses a `Connection` or the driver.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection

from elefast.errors import RefusedError
from elefast.isolation.lasting_effects import may_outlast_rollback
from elefast.postgres import driver_errors
from elefast.runtime.process_lifetime import OwnerProcess

__all__ = ["OWN_DATABASE", "ConnectionSource", "Identity", "OuterTransaction", "SavepointStack", "SessionScope"]

OWN_DATABASE = 'give the test a database of its own: @pytest.mark.elefast(isolation="database")'
"""The end of every refusal: what to do where a transaction is not enough."""


# -- a savepoint for each session ---------------------------------------------------------------------------

_READS = re.compile(r"[\s(]*(?:select|values|table|show|explain|with|fetch)\b", re.IGNORECASE)
# This also matches "FOR UPDATE" and columns with such names. Taking a read for a write is safe, the reverse is not.
_WRITES = re.compile(r"\b(?:insert|update|delete|merge|into|analyze)\b", re.IGNORECASE)
_SAVEPOINT = re.compile(
    r"\s*(savepoint|release(?:\s+savepoint)?|rollback(?:\s+work|\s+transaction)?\s+to(?:\s+savepoint)?)\s+"
    r"([^\s;]+)\s*;?\s*\Z",
    re.IGNORECASE,
)


class _Effect(Enum):
    READ = "read"
    WRITE = "write"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK = "rollback"


@lru_cache(maxsize=1024)
def _effect(statement: str) -> tuple[_Effect, str]:
    """The effect of a statement on its session's writes, and the savepoint that it names; in doubt it is a write."""
    if match := _SAVEPOINT.match(statement):
        return _Effect(match[1].split()[0].lower()), match[2]
    if _READS.match(statement) and not _WRITES.search(statement):
        return _Effect.READ, ""
    return _Effect.WRITE, ""


class Identity(NamedTuple):
    """A role and settings that one session has, and the connection has not.

    Args:
        begin: The SQL that sets them, for the rest of the transaction or until `end`.
        end: The SQL that sets those of the connection again.
    """

    begin: str
    end: str


class SessionScope:
    """The savepoint that a session, or another user of the connection, takes for its own transaction."""

    __slots__ = ("failed", "identity", "other_writes", "savepoint", "user_savepoints", "wrote")

    def __init__(self, identity: Identity | None = None) -> None:
        self.identity = identity
        """The role and the settings of the session; None for those of the connection."""
        self.savepoint = ""
        self.clear()

    def clear(self) -> None:
        """Forget what was executed in it, because its savepoint is gone."""
        self.wrote = False
        self.failed = False
        """Whether its last statement failed on the server, which refuses further statements until a rollback."""
        self.other_writes = 0
        """How often another scope wrote, or was committed, after this one's savepoint was set."""
        self.user_savepoints: dict[str, int] = {}
        """The savepoints that the session set in it, each with the value that `other_writes` had at that time."""


class SavepointStack:
    """The open scopes of one transaction, in the order of their savepoints.

    A scope that only read has nothing to lose. Its savepoint may be given up at any time and set anew.

    Args:
        send: Sends SQL to the server.
        begin: Gives the SQL that comes before the first savepoint.
    """

    def __init__(self, send: Callable[[str], None], begin: Callable[[], str]) -> None:
        self._send = send
        self._begin: Callable[[], str] | None = begin
        self._open: list[SessionScope] = []
        self._number = 0
        self.only_closing = False
        """Whether the test only closes what it has open. Then a scope that cannot be undone alone is not refused,
        because the rollback of the test undoes it."""

    @property
    def begun(self) -> bool:
        """Whether the transaction was begun on the server."""
        return self._begin is None

    def enter(self, scope: SessionScope, statement: str) -> None:
        """Prepare the execution of `statement` in `scope`.

        Raises:
            RefusedError: The statement would come between the writes of another scope.
        """
        effect, name = _effect(statement)
        self._discard_above(scope)
        if not self._is_top(scope):
            if not scope.wrote:
                self._push(scope)
            elif name:
                raise _later_scope_is_open("uses a savepoint")
        if effect is _Effect.READ:
            return
        if effect is _Effect.ROLLBACK and scope.other_writes > scope.user_savepoints.get(name, 0):
            raise _would_undo_others()
        if effect is _Effect.SAVEPOINT:
            scope.user_savepoints[name] = scope.other_writes
        elif effect is _Effect.RELEASE:
            scope.user_savepoints.pop(name, None)
        scope.wrote = True
        for above in self._open[self._open.index(scope) + 1 :]:
            above.other_writes += 1

    def commit(self, scope: SessionScope) -> None:
        """Keep what `scope` wrote until the test ends.

        Raises:
            RefusedError: A scope that began later has written, and its writes would be kept as well.
        """
        if scope.failed:
            # PostgreSQL takes a COMMIT after an error for a ROLLBACK.
            self.rollback(scope)
            return
        if scope not in self._open:
            return
        self._discard_above(scope)
        if self._is_top(scope):
            self._send(f"RELEASE SAVEPOINT {scope.savepoint}")
            self._open.pop()
            if scope.wrote or scope.other_writes:
                for below in self._open:
                    below.other_writes += 1
                # A rollback of a scope that only read would now undo what was just committed.
                self._open = [below for below in self._open if below.wrote]
        elif not scope.wrote:
            self._open.remove(scope)
        else:
            raise _later_scope_is_open("is committed")
        scope.clear()

    def rollback(self, scope: SessionScope) -> None:
        """Undo what `scope` wrote.

        Raises:
            RefusedError: The rollback would undo writes of other scopes as well.
        """
        if scope not in self._open:
            scope.clear()
            return
        self._discard_above(scope)
        if self.only_closing and not (scope.wrote or scope.failed or scope.other_writes):
            pass  # The rollback of the test follows, so this saves a round trip.
        elif self._is_top(scope) and not (scope.wrote and scope.other_writes):
            self._send(f"ROLLBACK TO SAVEPOINT {scope.savepoint}; RELEASE SAVEPOINT {scope.savepoint}")
        elif not self.only_closing and not self._is_top(scope) and scope.wrote:
            raise _later_scope_is_open("is rolled back")
        elif not self.only_closing and scope.other_writes:
            raise _would_undo_others()
        self._open.remove(scope)
        scope.clear()

    def _is_top(self, scope: SessionScope) -> bool:
        return bool(self._open) and self._open[-1] is scope

    def _push(self, scope: SessionScope) -> None:
        """Set a savepoint for `scope` above all others."""
        if scope in self._open:
            self._open.remove(scope)
        self._number += 1
        savepoint = f"elefast_{self._number}"
        begin = "" if self._begin is None else self._begin()
        self._send(f"{begin}SAVEPOINT {savepoint}")
        self._begin = None
        scope.clear()
        scope.savepoint = savepoint
        self._open.append(scope)

    def _discard_above(self, scope: SessionScope) -> None:
        """Close the scopes above `scope` that have nothing to lose."""
        while self._open and self._open[-1] is not scope:
            top = self._open[-1]
            if top.failed and not (top.user_savepoints or top.other_writes):
                # Its session can only roll back, and no statement of another session works before that.
                self._send(f"ROLLBACK TO SAVEPOINT {top.savepoint}")
            elif top.wrote or scope not in self._open:
                return
            self._open.pop()
            top.clear()


def _later_scope_is_open(what: str) -> RefusedError:
    return RefusedError(
        f"a session {what} while another one, which began later, has written and is still open; with "
        'isolation = "transaction" both are in one transaction.\n'
        f"Commit or close the later one first, or {OWN_DATABASE}",
        code="sessions-overlap",
    )


def _would_undo_others() -> RefusedError:
    return RefusedError(
        "a session is rolled back after another one wrote or committed inside of it; with "
        'isolation = "transaction" both are in one transaction, so this would undo the other one as well.\n'
        f"Commit before the other one begins, or {OWN_DATABASE}",
        code="sessions-overlap",
    )


# -- the transaction of the test ----------------------------------------------------------------------------

_MARK = "elefast_outer"
"""A savepoint at the beginning. If it does not exist at the end, the test has ended the transaction."""

_RAW_ACCESS = "raw access"
"""Stands for statements that only the driver sees. It is no SQL, so it counts as a write with a lasting effect."""

_SAVEPOINT_DOES_NOT_EXIST, _NO_TRANSACTION = "3B001", "25P01"
# The final statements report a failed condition by one of two errors: a division by zero, or the root of a negative.
_NOT_EXCLUSIVE, _HAS_SLOT = "22012", "2201F"


class ConnectionSource(Protocol):
    """Gives the connection, and the SQL that depends on the database."""

    def open(self, kind: str) -> Connection:
        """A connection for ``sync`` or ``async`` use, in the driver's autocommit mode."""
        ...

    def release(self, kind: str, connection: Connection) -> None:
        """Take the connection back when its transaction has ended."""
        ...

    def begin_statement(self) -> str:
        """The statement that begins a transaction."""
        ...

    def exclusive_condition(self) -> str:
        """A condition in SQL that no other session was in the database; empty where the server cannot tell."""
        ...

    def no_slots_condition(self) -> str:
        """A condition in SQL that the database has no replication slot, which no rollback removes; empty where it
        cannot have one."""
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
        self._lock = threading.Lock()
        self._user = ""
        """The thread or task that holds the lock, or held it last."""
        self._connection: Connection | None = None
        self._driver: Any = None
        self._execute_options: dict[str, bool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer: AsyncGenerator[None] | None = None
        """Suspended in the event loop of the connection; its end finishes the transaction."""
        self._releasing = False
        self.kind = ""
        """``sync`` or ``async``, once one of them is used."""
        self.ended = ""
        """The reason why the connection cannot be used any more; empty during the test."""
        self.lost = ""
        """The reason why the transaction cannot be rolled back by itself; empty as long as it can."""
        self.verified_exclusive = False
        """Whether the source's condition held when the test ended. An event loop may end the transaction earlier."""
        self.session_changed = False
        """Whether the server's session may keep something that no rollback undoes, so that no other test may use it."""
        self.savepoints = SavepointStack(self._send, lambda: f"{source.begin_statement()}; SAVEPOINT {_MARK}; ")

    def require_kind(self, kind: str) -> None:
        """Note that ``sync`` or ``async`` code uses the transaction.

        Raises:
            RefusedError: Code of the other kind uses it already.
        """
        self.kind = self.kind or kind
        if self.kind != kind:
            raise RefusedError(
                'with isolation = "transaction" a test uses either sync or async sessions, since each kind would '
                f"have a connection of its own; this one has {self.kind} ones already.\n"
                f"Keep to the fixtures db* or to async_db*, or {OWN_DATABASE}",
                code="sync-and-async",
            )

    def connect(self, kind: str) -> Any:
        """The driver's connection as SQLAlchemy wraps it. The first call opens it.

        Raises:
            RefusedError: The test is over, or this is another event loop or process than the connection's.
        """
        if self._in_forked_child:
            raise RefusedError(_FORKED, code="second-connection")
        if self.ended:
            raise RefusedError(
                self.ended, code="transaction-other-loop" if self.ended == _OTHER_LOOP else "transaction-over"
            )
        self.require_kind(kind)
        loop = asyncio.get_running_loop() if kind == "async" else None
        if self._driver is None:
            with self._exclusive_use():
                self._open(kind, loop)
        elif loop is not self._loop:
            raise RefusedError(_OTHER_LOOP, code="transaction-other-loop")
        return self._driver

    @contextmanager
    def executing(self, scope: SessionScope, statement: str) -> Generator[None]:
        """Surround the execution of `statement` in `scope`.

        Raises:
            RefusedError: The statement would not be isolated from other scopes, another statement is running, or the
                transaction is lost.
        """
        with self._exclusive_use():
            self._enter(scope, statement)
            # A savepoint is set with the identity of the connection, so that a rollback to it restores that one.
            identity = scope.identity if _effect(statement)[0] in (_Effect.READ, _Effect.WRITE) else None
            if identity is not None and not scope.failed:
                # A custom setting is an empty one after its first use, whatever is rolled back.
                self.session_changed = True
                self._send(identity.begin)
            try:
                yield
            except Exception as error:
                scope.failed = bool(driver_errors.sqlstate(error))
                if identity is not None and not scope.failed:
                    self._send(identity.end)
                raise
            scope.failed = False
            if identity is not None:
                self._send(identity.end)

    def allow_raw_access(self, kind: str, scope: SessionScope) -> None:
        """Prepare `scope` for statements that code sends through the driver itself.

        Raises:
            RefusedError: As for `connect` and `executing`.
        """
        if scope.identity is not None:
            raise RefusedError(
                'with isolation = "transaction" a session of `as_role` shares its connection with other roles, so its '
                f"driver cannot be used directly.\nExecute statements by the session, or {OWN_DATABASE}",
                code="role-in-transaction",
            )
        self.connect(kind)
        with self._exclusive_use():
            self._enter(scope, _RAW_ACCESS)

    def end_scope(self, scope: SessionScope, *, commit: bool) -> None:
        """Commit or roll back `scope`; without effect once the transaction has ended or is lost.

        Raises:
            RefusedError: The end would keep or undo writes of other scopes as well.
        """
        if self.ended or self.lost or self._in_forked_child:
            scope.clear()
            return
        with self._exclusive_use():
            try:
                (self.savepoints.commit if commit else self.savepoints.rollback)(scope)
            except Exception as error:
                if self._was_ended_by_test(error):
                    return
                if not self.savepoints.only_closing:
                    raise
                self.mark_lost(f"left its connection broken: {driver_errors.driver_message(error)}")

    def mark_lost(self, reason: str) -> None:
        """Note why the transaction cannot be rolled back; the first reason stays."""
        self.lost = self.lost or reason

    def release(self) -> None:
        """Roll back and release the connection. It never raises; `lost` tells whether that failed."""
        self._releasing = True
        if self._in_forked_child:
            return
        loop, finalizer = self._loop, self._finalizer
        try:
            if loop is None or finalizer is None:
                self._finish()
            elif not loop.is_closed():
                # An async connection must be closed in its loop. The async fixtures of the test are finished by now.
                ending: Any = finalizer.aclose()
                if loop.is_running():
                    asyncio.run_coroutine_threadsafe(ending, loop).result(timeout=10)
                else:
                    loop.run_until_complete(ending)
        except Exception as error:
            self.mark_lost(f"could not end its transaction: {driver_errors.driver_message(error)}")
        if not self.ended:
            self.mark_lost("closed the event loop of its connection, and left that open")
        self.ended = _test_is_over(self._test)

    @property
    def _in_forked_child(self) -> bool:
        """Whether this is a fork: both processes have the socket, and the parent would get the child's answers."""
        return not self._owner.is_current

    @contextmanager
    def _exclusive_use(self) -> Generator[None]:
        """Hold the connection; refuse where another thread or task has it."""
        user = _current_user()
        if not self._lock.acquire(blocking=False):
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
            self._lock.release()

    def _open(self, kind: str, loop: asyncio.AbstractEventLoop | None) -> None:
        if self._driver is None:
            self._connection = self._source.open(kind)
            self._driver = self._connection.connection.dbapi_connection
            self._loop = loop
            if kind == "sync" and self._connection.dialect.driver == "psycopg":
                # psycopg prepares frequent statements and deallocates them at each rollback. Both are round trips.
                self._execute_options = {"prepare": False}
                self._forget_executions()
            if loop is not None:
                self._finish_with_loop()

    def _forget_executions(self) -> None:
        """Let psycopg count anew how often each statement is executed, which decides whether it is prepared.

        A prepared statement fails where a change of the schema or of ``search_path`` changes its columns.
        """
        if (prepared := getattr(self._driver, "_prepared", None)) is not None:
            prepared.clear()
        else:
            self._driver.prepare_threshold = None

    def _enter(self, scope: SessionScope, statement: str) -> None:
        # Raw access may also change the driver's connection object.
        self.session_changed = self.session_changed or may_outlast_rollback(statement)
        try:
            self._require_not_lost()
            self.savepoints.enter(scope, statement)
        except Exception as error:
            if self._was_ended_by_test(error):
                self._require_not_lost()
            raise

    def _send(self, statements: str) -> None:
        driver = self.connect(self.kind)
        if self.kind == "async":
            # The dialect prepares every statement, and so cannot send several at once. The driver can.
            execute: Callable[[Any], Any] = lambda raw: raw.execute(statements)  # noqa: E731  a def would need the driver's types
            driver.run_async(execute)
            return
        if _is_executing(driver):
            # The driver would wait for its end, for ever where it is a COPY that nobody finishes.
            if self._releasing or self.savepoints.only_closing:
                self.mark_lost("left a statement or a COPY running, which it sent through the driver")
            raise RefusedError(
                "a statement or a COPY that was sent through the driver is still running, and with isolation = "
                f'"transaction" a test has one connection.\nLet it end first, or {OWN_DATABASE}',
                code="concurrent-use",
            )
        cursor = driver.cursor()
        try:
            cursor.execute(statements, **self._execute_options)
        finally:
            cursor.close()

    def _finish_with_loop(self) -> None:
        """Finish the transaction when the event loop ends, if the test does not end first.

        asyncio closes the async generators of a loop before it closes the loop.
        """
        from sqlalchemy.util import await_only, greenlet_spawn

        async def wait() -> AsyncGenerator[None]:
            try:
                yield
            finally:
                await greenlet_spawn(self._finish)

        self._finalizer = wait()
        begun: Any = anext(self._finalizer)
        await_only(begun)

    def _finish(self) -> None:
        """Roll back, verify the conditions of the source, and release the connection."""
        connection = self._connection
        if not self.ended and not self._in_forked_child and connection is not None and self._driver is not None:
            try:
                if not self._lock.acquire(blocking=False):
                    self.mark_lost(f"left a statement running, in {self._user}")
                if not self.lost:
                    self._send(self._final_statements())
                    self.verified_exclusive = self._releasing
            except Exception as error:
                state = driver_errors.sqlstate(error)
                if state == _NOT_EXCLUSIVE:
                    self.mark_lost(_ANOTHER_SESSION)
                elif state == _HAS_SLOT:
                    self.mark_lost("left a replication slot, which is part of no transaction")
                elif not self._was_ended_by_test(error):
                    self.mark_lost(f"left its connection broken: {driver_errors.driver_message(error)}")
            finally:
                self._source.release(self.kind, connection)
        self.ended = self.ended or (_test_is_over(self._test) if self._releasing else _OTHER_LOOP)

    def _final_statements(self) -> str:
        statements = "SELECT pg_advisory_unlock_all()"
        if self.savepoints.begun:
            # A rollback undoes rows, schema and settings. It does not undo the session's values of sequences.
            statements = f"ROLLBACK TO SAVEPOINT {_MARK}; ROLLBACK; DISCARD SEQUENCES; {statements}"
        if condition := self._source.exclusive_condition():
            # Drivers differ in what they return for several statements at once. All of them raise an error.
            statements += f", 1 / CASE WHEN {condition} THEN 1 ELSE 0 END"
        if condition := self._source.no_slots_condition():
            statements += f", sqrt(CASE WHEN {condition} THEN 1 ELSE -1 END)"
        return statements

    def _require_not_lost(self) -> None:
        if self.lost:
            raise RefusedError(
                f"the transaction of this test is gone: it {self.lost}.\nDo without, or {OWN_DATABASE}",
                code="transaction-over",
            )

    def _was_ended_by_test(self, error: BaseException) -> bool:
        """Whether `error` shows that the test has ended the transaction, which is noted."""
        if isinstance(error, RefusedError):
            return False
        if driver_errors.sqlstate(error) in (_SAVEPOINT_DOES_NOT_EXIST, _NO_TRANSACTION):
            self.mark_lost("ended the transaction that it was in, with a COMMIT or ROLLBACK of its own")
            return True
        return False


_ANOTHER_SESSION = (
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


def _is_executing(driver: Any) -> bool:
    """Whether the driver waits for the server, as far as it tells; libpq's PQTRANS_ACTIVE is 1."""
    return getattr(getattr(driver, "info", None), "transaction_status", None) == 1


def _test_is_over(test: str) -> str:
    return f"the transaction of {test or 'this test'} is over, and what it left has no connection any more"


def _current_user() -> str:
    """The current task, or the thread where no task runs, as messages name it."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return f"thread {threading.current_thread().name}" if task is None else f"task {task.get_name()}"

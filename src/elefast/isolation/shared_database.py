"""One database for all tests of a process that do with a transaction, and its loan to one test after the other.

What a test commits, its sessions see and nobody else; at its end all of it is rolled back. Where that did not
work, the database goes, and the next test has a fresh one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Dialect, Engine

from elefast.databases.report import Leak
from elefast.errors import RefusedError
from elefast.isolation.engine import JoinedEngine, joined_dialect
from elefast.isolation.lasting_effects import functions_that_last
from elefast.isolation.outer_transaction import Outer
from elefast.postgres.session_counts import last_reset
from elefast.postgres.sql import literal, rows
from elefast.runtime import clock
from elefast.sync import Database

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from elefast.asyncio import AsyncDatabase
    from elefast.stack import Stack

__all__ = ["NOWHERE", "LentTransaction", "SharedDatabase"]

NOWHERE = "isolation-is-transaction.elefast.invalid"
"""The host of URLs that an application would connect to by itself. Names under .invalid never resolve (RFC 6761)."""

_THROWN_AWAY = (
    "the database was thrown away, and the next test has a fresh one. Such a test needs a database of its own: "
    '@pytest.mark.elefast(isolation="database")'
)

_NOT_ALONE = "was not alone: another session was connected to the database that all tests share"
_OR_BEFORE = ", now or up to a second before"

_GRACE = 1.0
"""Seconds that sessions of elefast's own may take to be gone, where the server does not count who was there."""

SESSION_OPTIONS: Mapping[str, Any] = {"join_transaction_mode": "create_savepoint"}


class SharedDatabase:
    """The database and its connection; an async one is opened anew in each test's loop.

    Args:
        stack: Whose it is.
        name: Its name on the server.
        counts: Whether the server counts sessions at once; PostgreSQL 14 does up to half a second later.
        before: The sessions that it has had already: a database that an earlier run has left may have had some.
    """

    def __init__(self, stack: Stack, name: str, *, counts: bool, before: int) -> None:
        self._stack = stack
        self.counts = counts
        self.name = name
        self._process = os.getpid()
        self._oid = 0
        self._may_have_slots = False
        self._since = ""
        """When its statistics were last reset, see `last_reset`."""
        self._renews = False
        self._sessions = before
        self._open = 0
        self._level = ""
        self._engines: dict[str, Engine] = {}
        self._dialects: dict[str, Dialect] = {}
        self._kept: Connection | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this process made it."""
        return self._process == os.getpid()

    def engine(self, kind: str, outer: Outer) -> JoinedEngine:
        """An engine for ``sync`` or ``async`` sessions of the test that has `outer`."""
        original = self._original(kind)
        # Mappers keep compiled statements by their dialect, and listeners of a test are on it.
        self._dialects[kind] = joined_dialect(original.dialect)
        return JoinedEngine(outer, original, self._dialects[kind])

    # -- what `Outer` needs ---------------------------------------------------------------------------------

    def open(self, kind: str) -> Connection:
        """See `elefast.isolation.outer_transaction.Source`."""
        if kind == "sync" and self._kept is not None:
            return self._kept
        connection = self._original(kind).connect()
        try:
            self._sessions += 1
            self._open += 1
            self._set_up(kind, connection)
        except BaseException:
            self.shut("async", connection)
            raise
        if kind == "sync":
            self._kept = connection
        return connection

    def shut(self, kind: str, connection: Connection) -> None:
        """See `elefast.isolation.outer_transaction.Source`."""
        if kind == "sync":
            return
        self._open -= 1
        _end(connection)

    def begin(self) -> str:
        """See `elefast.isolation.outer_transaction.Source`."""
        return f"BEGIN ISOLATION LEVEL {self._level}"

    def check(self) -> str:
        """See `elefast.isolation.outer_transaction.Source`."""
        if not self.counts:
            return ""
        # A reset of the statistics hides the sessions that there were.
        since = last_reset(str(self._oid))
        return f"pg_stat_get_db_sessions({self._oid}) <= {self._sessions} AND {since} = {literal(self._since)}"

    def no_slots(self) -> str:
        """See `elefast.isolation.outer_transaction.Source`."""
        if not self._may_have_slots:
            return ""
        return f"NOT EXISTS (SELECT FROM pg_get_replication_slots() WHERE datoid = {self._oid})"

    # -- its end --------------------------------------------------------------------------------------------

    def was_alone(self) -> bool:
        """Whether no session but elefast's own was in the database, as seen from another one."""
        sessions, connected, since = self._stack.visitors(self.name)
        # PostgreSQL 14 sets that time by itself, when it first hears of the database.
        if self.counts and self._oid and since != self._since:
            return False
        if not self.counts:
            # Who is connected now counts as well; and a backend whose client has said goodbye takes a moment to go.
            deadline = clock.now() + _GRACE
            while connected > self._open and clock.now() < deadline:
                time.sleep(0.005)
                sessions, connected, since = self._stack.visitors(self.name)
            if connected > self._open:
                return False
        return sessions <= self._sessions

    def renew(self, outer: Outer) -> None:
        """Close the sync connection where its session, or the driver, may not be as it was before the test."""
        if self._kept is not None and (outer.renews or self._renews):
            self._open -= 1
            self.close()

    def close(self) -> None:
        """Close the connection; in a forked child, which has its parent's, leave it alone."""
        kept, self._kept = self._kept, None
        if kept is not None and self.is_ours:
            _end(kept)

    def _original(self, kind: str) -> Engine:
        if kind not in self._engines:
            make = self._stack.async_engine if kind == "async" else self._stack.engine
            self._engines[kind] = make(self.name)
        return self._engines[kind]

    def _set_up(self, kind: str, connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        if not self._level:
            if getattr(driver, "autocommit", False):
                raise RefusedError(
                    'isolation_level = "AUTOCOMMIT" in engine.options leaves nothing to roll back; it cannot go '
                    'with isolation = "transaction".\nTake it out, or set isolation = "database"',
                    code="transaction-autocommit",
                )
            self._level = connection.get_isolation_level()
            driver.rollback()
        if not self._oid:
            self._oid, self._may_have_slots, self._since, self._renews = rows(
                connection,
                "SELECT oid::bigint, current_setting('wal_level') = 'logical', "
                f"{last_reset('oid')}, {functions_that_last()} "
                "FROM pg_database WHERE datname = current_database()",
            )[0]
        # What listeners have set stays, and a transaction that they or we have begun ends.
        driver.commit()
        if connection.dialect.driver == "psycopg2":
            # Without autocommit, since it refuses named cursors with it; and so that it takes itself to be in a
            # transaction for good, and begins none by itself.
            with driver.cursor() as cursor:
                cursor.execute("ROLLBACK")
        else:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        if kind in self._dialects:
            # An engine learns from its first connection what its dialect may use.
            learnt, told = vars(connection.dialect), vars(self._dialects[kind])
            for name, value in learnt.items():
                # Listeners of a test would be the original's with it, and stay.
                if name != "dispatch" and (name not in told or _is_plain(value)):
                    told[name] = value


class LentTransaction:
    """A shared database for one test, with the shape of `elefast.isolation.database.LentDatabase`.

    Args:
        stack: Whose it is.
        shared: The database.
        test: The node id of the test.
        discard: Told when the database is of no use any more.
    """

    session_options: Mapping[str, Any] = SESSION_OPTIONS

    def __init__(self, stack: Stack, shared: SharedDatabase, test: str, discard: Callable[[], None]) -> None:
        self._stack = stack
        self._shared = shared
        self._discard = discard
        self._outer = Outer(test, shared)
        self._engine: JoinedEngine | None = None
        self._async_engine: AsyncEngine | None = None
        self._sync: Database | None = None
        self._async: AsyncDatabase | None = None
        self.name = shared.name
        self.test = test

    @property
    def engine(self) -> Engine:
        """An engine for sync sessions; nobody else may connect with it."""
        if self._engine is None:
            self._engine = self._shared.engine("sync", self._outer)
        return self._engine

    @property
    def async_engine(self) -> AsyncEngine:
        """An engine for async sessions; nobody else may connect with it."""
        if self._async_engine is None:
            self._stack.async_server  # noqa: B018  says what to install where asyncio cannot be used
            from sqlalchemy.ext.asyncio import AsyncEngine

            self._async_engine = AsyncEngine(self._shared.engine("async", self._outer))
        return self._async_engine

    @property
    def sync(self) -> Database:
        """The view with a sync engine.

        Raises:
            RefusedError: The test has the other view already.
        """
        self._outer.claim("sync")
        if self._sync is None:
            server = self._stack.server
            self._sync = Database(self.engine, server, server.sessionmaker_factory)
            self._sync.sessionmaker.configure(**SESSION_OPTIONS)
        return self._sync

    @property
    def async_(self) -> AsyncDatabase:
        """The view with an async engine.

        Raises:
            RefusedError: The test has the other view already.
        """
        self._outer.claim("async")
        if self._async is None:
            from elefast.asyncio import AsyncDatabase

            server = self._stack.async_server
            self._async = AsyncDatabase(self.async_engine, server, server.sessionmaker_factory)
            self._async.sessionmaker.configure(**SESSION_OPTIONS)
        return self._async

    def url_for(self, driver: str) -> URL:
        """A URL that leads nowhere: whoever connected by it would write past the transaction."""
        return URL.create(driver, username="elefast", host=NOWHERE, database=self.name)

    def let_go(self) -> None:
        """From here on the test only closes what it has."""
        self._outer.frames.lenient = True

    def release(self, *, failed: bool = False, keep: str = "never", wait: bool = False) -> list[Leak]:
        """Roll back; where that did not do, throw the database away and say why.

        Args:
            failed: Not used: what a failed test wrote is rolled back as well.
            keep: Not used, for the same reason.
            wait: Wait until a database that was thrown away is dropped.
        """
        self._outer.release()
        checked = self._outer.checked and self._shared.check()
        if not checked and not self._outer.lost and not self._shared.was_alone():
            self._outer.lose(_NOT_ALONE + ("" if self._shared.counts else _OR_BEFORE))
        if not self._outer.lost:
            self._shared.renew(self._outer)
            self._stack.leave(self.test)
            return []
        self._discard()
        leaks = self._stack.give_back(self.name, self.test, wait=wait)
        return [Leak(self.test, _THROWN_AWAY, self._outer.lost), *leaks]


def _end(connection: Connection) -> None:
    """Close it and the driver's connection; a pool that it is of, if the project wants one, must not have it back."""

    def close_driver() -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.close()

    for close in (close_driver, connection.invalidate, connection.close):
        with suppress(Exception):  # whatever a test has done to it, it ends
            close()


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | tuple | type(None))

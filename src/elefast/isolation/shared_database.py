"""The database that all tests of a process share with ``isolation = "transaction"``, and its one connection."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Dialect, Engine

from elefast.databases.service import DatabaseService
from elefast.errors import RefusedError
from elefast.isolation.engine import SharedConnectionEngine, shared_dialect
from elefast.isolation.lasting_effects import functions_that_last
from elefast.isolation.outer_transaction import OuterTransaction
from elefast.postgres.databases import last_reset
from elefast.postgres.sql import literal, rows
from elefast.runtime import clock
from elefast.runtime.process_lifetime import OwnerProcess

__all__ = ["SharedDatabase"]

_GRACE = 1.0
"""Seconds that sessions of elefast's own may take to be gone, where the server does not count who was there."""


class SharedDatabase:
    """The database and its connection; an async one is opened anew in each test's loop.

    Args:
        service: The service that the database is from.
        name: Its name on the server.
        counts: Whether the server counts sessions at once; PostgreSQL 14 does up to half a second later.
        before: The sessions that it has had already: a database that an earlier run has left may have had some.
    """

    def __init__(self, service: DatabaseService, name: str, *, counts: bool, before: int) -> None:
        self._service = service
        self.counts = counts
        self.name = name
        self._owner = OwnerProcess()
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
        self._retired = False

    @property
    def usable(self) -> bool:
        """Whether this process made it, and tests may still have it."""
        return self._is_ours and not self._retired

    @property
    def _is_ours(self) -> bool:
        return self._owner.is_current

    def engine(self, kind: str, outer: OuterTransaction) -> SharedConnectionEngine:
        """An engine for ``sync`` or ``async`` sessions of the test that has `outer`."""
        original = self._original(kind)
        # Mappers keep compiled statements by their dialect, and listeners of a test are on it.
        self._dialects[kind] = shared_dialect(original.dialect)
        return SharedConnectionEngine(outer, original, self._dialects[kind])

    # -- what `OuterTransaction` needs ---------------------------------------------------------------------------------

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
        sessions, connected, since = self._service.session_counts(self.name)
        # PostgreSQL 14 sets that time by itself, when it first hears of the database.
        if self.counts and self._oid and since != self._since:
            return False
        if not self.counts:
            # Who is connected now counts as well; and a backend whose client has said goodbye takes a moment to go.
            deadline = clock.now() + _GRACE
            while connected > self._open and clock.now() < deadline:
                time.sleep(0.005)
                sessions, connected, since = self._service.session_counts(self.name)
            if connected > self._open:
                return False
        return sessions <= self._sessions

    def renew(self, outer: OuterTransaction) -> None:
        """Close the sync connection where its session, or the driver, may not be as it was before the test."""
        if self._kept is not None and (outer.renews or self._renews):
            self._open -= 1
            self.close()

    def retire(self) -> None:
        """Let no further test have the database, and close the connection."""
        self._retired = True
        self.close()

    def close(self) -> None:
        """Close the connection; in a forked child, which has its parent's, leave it alone."""
        kept, self._kept = self._kept, None
        if kept is not None and self._is_ours:
            _end(kept)

    def _original(self, kind: str) -> Engine:
        if kind not in self._engines:
            make = self._service.async_engine if kind == "async" else self._service.engine
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

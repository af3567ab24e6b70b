"""A session of the server that outlives the connections of the tests that use it, one after the other.

    session = RetainedSession.over(connection)      # a new psycopg connection; None where its session cannot be lent
    lent = session.lend("name", {})                 # for the test: a new psycopg connection around the same session
    session.expect_return()                         # from now on, `close()` on it leaves the session open
    if session.is_returned(): session.run(session.clean_statements()) ...

A new session costs a fork of the server and cold caches, which is most of the price of a trivial test. What a test
could leave in a session is undone by ``DISCARD ALL``, prevented (`_HAZARDS`), or found (`is_clean`); then the session
is not lent again.
"""

from __future__ import annotations

import random
import select
import sys
import weakref
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import psycopg
from psycopg import ConnectionInfo, pq
from psycopg.adapt import AdaptersMap
from sqlalchemy import URL, Connection

from elefast.postgres.connections.engines import maintenance_connection
from elefast.postgres.sql import literal, rows
from elefast.runtime import clock
from elefast.runtime.process_lifetime import OwnerProcess, fork_count

__all__ = ["MINIMUM_VERSION", "RetainedSession"]

MINIMUM_VERSION = 160000
"""The first version whose sessions show that a custom setting was made (the memory context GUCMemoryContext)."""

Rows = list[tuple[str | None, ...]]

_TIMEOUT = 30.0
"""Seconds that the statements of a reset may take. No other session holds a lock in the database."""


def _of(method: Any) -> Any:
    return getattr(method, "__func__", None)


_CONNECT = _of(psycopg.Connection.connect)
_CONNECT_ASYNC = _of(psycopg.AsyncConnection.connect)

# Libraries whose functions keep nothing in a session but caches and settings. Others, such as dblink and plpython, do.
_LIBRARIES = frozenset(
    "btree_gin btree_gist citext cube earthdistance fuzzystrmatch hstore intarray _int ltree pg_trgm pgcrypto plpgsql"
    " seg tablefunc tsm_system_rows unaccent uuid-ossp vector".split()
)

# What would keep state in a session that nothing shows, and the libraries to load before the first test: loading one
# later would define settings, which look like custom ones. 16384 is the lowest oid of objects that users create.
_HAZARDS = """
    select case
        when current_setting('is_superuser') <> 'on' then 'the role is not a superuser'
        when exists (select from pg_language where lanname not in ('internal', 'c', 'sql', 'plpgsql'))
            then 'a procedural language may keep values for a session'
        when exists (select from pg_event_trigger where evtevent = 'login' and evtenabled <> 'D')
            then 'a login trigger runs at the beginning of each session'
        when current_setting('default_transaction_read_only') <> 'off' then 'its transactions are read-only'
        when current_setting('search_path') ~ 'pg_catalog' then 'names may mean other objects than those of pg_catalog'
        else '' end,
        array_to_string(array(select distinct probin from pg_proc
              where oid >= 16384 and prolang = (select oid from pg_language where lanname = 'c')
              union select '$libdir/plpgsql'
              where exists (select from pg_proc join pg_language l on l.oid = prolang where lanname = 'plpgsql')), ' ')
"""

# A setting that is set for the first time makes GUCMemoryContext grow, and nothing makes it shrink again. A module that
# keeps something for the session does so in a child of TopMemoryContext, which has a name.
_SESSION = """
    select sum(used_bytes) filter (where name = 'GUCMemoryContext')::bigint,
           bool_or(level = {level} and name not in ({caches})),
           pg_replication_origin_session_is_setup(), setseed({seed}) is null
    from pg_backend_memory_contexts where level <= {level}
"""

_CACHES = frozenset(
    {
        "Attopt cache",
        "CFuncHash",
        "CacheMemoryContext",
        "Cached function hash",
        "ErrorContext",
        "EventTriggerCache",
        "GUCMemoryContext",
        "LOCALLOCK hash",
        "Map from relid to OID of cached composite type",
        "MdSmgr",
        "MessageContext",
        "Operator class cache",
        "Operator lookup cache",
        "PL/pgSQL function",
        "PLpgSQL cast cache",
        "PLpgSQL cast expressions",
        "PLpgSQL function hash",
        "PgStat Pending",
        "PgStat Shared Ref",
        "PgStat Shared Ref Hash",
        "Pending ops context",
        "Portal hash",
        "Prepared Queries",
        "PrivateRefCount",
        "RI compare cache",
        "RI constraint cache",
        "RI query cache",
        "Record information cache",
        "RegexpCacheMemoryContext",
        "RegexpMemoryContext",
        "Relcache by OID",
        "Rendezvous variable hash",
        "RowDescriptionContext",
        "Sequence values",
        "TS dictionary",
        "TableSpace cache",
        "Timezones",
        "TopPortalContext",
        "TopTransactionContext",
        "TransactionAbortContext",
        "Tsearch configuration cache",
        "Tsearch dictionary cache",
        "Tsearch parser cache",
        "Type information cache",
        "WAL record construction",
        "search_path processing cache",
        "smgr relation table",
    }
)
"""The children of TopMemoryContext in a session that keeps nothing but PostgreSQL's caches and empty tables."""

_CACHE_NAMES = ", ".join(map(literal, sorted(_CACHES)))


class RetainedSession:
    """One session, with its libpq connection; made by `over`.

    Args:
        pgconn: The libpq connection.
        url: The URL that it was opened with.
    """

    def __init__(self, pgconn: pq.abc.PGconn, url: URL) -> None:
        self._pgconn = pgconn
        self.driver = psycopg.Connection[Any](pgconn)
        """The psycopg connection of `connection`."""
        self.driver.autocommit = True
        self.connection: Connection = maintenance_connection(self.driver, url)
        """A connection of elefast over this session, in autocommit mode. It must not be used while a test has it."""
        self.pid = pgconn.backend_pid
        """The process id of the backend."""
        self._owner = OwnerProcess()
        self._forks = 0
        self._lent: weakref.ref[_LentConnection | _LentAsyncConnection] | None = None
        self._expected = False
        self._returned = True
        self._settings_size: str | None = None
        self._parameters: object = None
        self.answers: list[Any] | None = None
        """What a dialect has asked when the session was new."""
        self._references = 0

    @classmethod
    def over(cls, connection: Any, url: URL) -> RetainedSession | None:
        """Take over the session of a new connection, which is of no use afterwards.

        Args:
            connection: A connection that no test has had.
            url: The URL that it was opened with.

        Returns:
            The session; None if it cannot be lent to several tests. Then `connection` is as it was.
        """
        # Without a global lock the number of references to an object proves nothing.
        if type(connection) is not psycopg.Connection or not getattr(sys, "_is_gil_enabled", lambda: True)():
            return None
        pgconn = connection.pgconn
        if pgconn.server_version < MINIMUM_VERSION or pgconn.transaction_status != pq.TransactionStatus.IDLE:
            return None
        session = cls(pgconn, url)
        try:
            ((hazard, libraries),) = rows(session.connection, _HAZARDS)
            is_possible = not hazard and _LIBRARIES.issuperset(map(_library_name, libraries.split()))
            if is_possible:
                loading = [[f"LOAD '{library}'"] for library in libraries.split()]
                checked = session.run([*loading, *session.clean_statements(), [session.check_query()]])
                session.is_clean(checked[-1])
        except Exception:
            session.driver.pgconn = _closed_pgconn()  # `connection` has the session as before
            raise
        if not is_possible:
            session.driver.pgconn = _closed_pgconn()
            return None
        connection.pgconn = _closed_pgconn()
        return session

    def lend(self, database: str, keywords: Mapping[str, Any]) -> psycopg.Connection[Any]:
        """A new psycopg connection around the session, for a test.

        Args:
            database: The name that the database has now.
            keywords: The arguments of ``psycopg.connect`` that it would be opened with.
        """
        return self._lend(_LentConnection, database, keywords)

    def lend_async(self, database: str, keywords: Mapping[str, Any]) -> psycopg.AsyncConnection[Any]:
        """Like `lend`, for the running event loop.

        A test opens an async connection for each transaction, because a pool of them would belong to one loop. So the
        session is as new whenever the connection is closed, and the test may get it again.
        """
        return self._lend(_LentAsyncConnection, database, keywords)

    def _lend(self, cls: type[C], database: str, keywords: Mapping[str, Any]) -> C:
        self._references = sys.getrefcount(self._pgconn)
        lent = cls(self._pgconn)
        lent.session, lent.database = self, database
        # As psycopg's `connect` does. The public attribute of an async connection cannot be set.
        setattr(lent, "_autocommit", bool(keywords.get("autocommit", False)))  # noqa: B010
        lent.prepare_threshold = keywords.get("prepare_threshold", 5)
        if context := keywords.get("context"):
            setattr(lent, "_adapters", AdaptersMap(context.adapters))  # noqa: B010
        if factory := keywords.get("row_factory"):
            lent.row_factory = factory
        if factory := keywords.get("cursor_factory"):
            lent.cursor_factory = factory
        self._lent, self._forks = weakref.ref(lent), fork_count()
        self._expected = self._returned = False
        return lent

    @staticmethod
    def can_lend() -> bool:
        """Whether psycopg's functions that connect are psycopg's, and not those of a tool that records what they do."""
        return _of(psycopg.connect) is _CONNECT and _of(psycopg.AsyncConnection.connect) is _CONNECT_ASYNC

    def is_like_new_one(self, parameters: object) -> bool:
        """Whether `parameters`, by which a new session would be opened, are those of the first call."""
        if self._parameters is None:
            self._parameters = parameters
        return self._parameters == parameters

    def expect_return(self) -> None:
        """The test has ended: the session stays open when its connection is closed from now on."""
        self._expected = True

    def accept(self, lent: _LentConnection | _LentAsyncConnection) -> bool:
        """Take the session from `lent`, which is being closed; False where it has to be closed as usual."""
        status = self._pgconn.transaction_status
        if not (
            (self._expected or isinstance(lent, _LentAsyncConnection))
            and self._owner.is_current
            and lent.pgconn is self._pgconn
            and status in (pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)
            and self._pgconn.pipeline_status == pq.PipelineStatus.OFF
        ):
            return False
        if not self._expected:
            try:
                *_, checked = self.run([*self.clean_statements(), [self.check_query()]])
            except (psycopg.Error, TimeoutError):
                return False
            if not self.is_clean(checked):
                return False
        self._returned = True
        return True

    def is_returned(self) -> bool:
        """Whether the test has closed its connection, and no cursor or other object can use the session any more."""
        lent = self._lent() if self._lent is not None else None
        return (
            self._owner.is_current
            and self._pgconn.status == pq.ConnStatus.OK
            and (self._returned or lent is None)
            and (self._lent is None or self._forks == fork_count())
            and (self._lent is None or self._references == sys.getrefcount(self._pgconn))
        )

    def clean_statements(self) -> list[list[str]]:
        """The statements that undo what a test has done in the session.

        What stays is the backend with its process id and its caches.
        """
        status = self._pgconn.transaction_status
        return [["DISCARD ALL"]] if status == pq.TransactionStatus.IDLE else [["ROLLBACK"], ["DISCARD ALL"]]

    def check_query(self) -> str:
        """The query for `is_clean`, after which the next random number of the session is a random one."""
        # PostgreSQL 18 counts the levels from 1.
        level = 2 if self._pgconn.server_version >= 180000 else 1
        return _SESSION.format(level=level, caches=_CACHE_NAMES, seed=random.uniform(-1, 1))

    def is_clean(self, found: Sequence[tuple[str | None, ...]]) -> bool:
        """Whether a test could not tell the session from a new one.

        Args:
            found: The row of `check_query`, after `clean_statements`.
        """
        ((size, has_more, has_origin, _),) = found
        if self._settings_size is None:
            self._settings_size = size
        return (size, has_more, has_origin) == (self._settings_size, "f", "f")

    def run(self, transactions: Sequence[Sequence[str]]) -> list[Rows]:
        """Run statements in one round trip; the rows of each statement, as text.

        Args:
            transactions: The statements, grouped by the transactions that they are in.

        Raises:
            psycopg.Error: The first error of the server.
            TimeoutError: The server has not answered for `_TIMEOUT` seconds.
        """
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        for statements in transactions:
            for statement in statements:
                pgconn.send_query_params(statement.encode(), None)
            pgconn.pipeline_sync()
        found: list[Rows] = []
        errors: list[psycopg.Error] = []
        deadline = clock.now() + _TIMEOUT
        remaining = len(transactions)
        while remaining:
            result = self._receive(deadline)
            if result is None:
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                remaining -= 1
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                errors.append(psycopg.errors.error_from_result(result))
            else:
                columns = range(result.nfields)
                found.append([tuple(map(partial(_text, result, row), columns)) for row in range(result.ntuples)])
        pgconn.exit_pipeline_mode()
        if errors:
            raise errors[0]
        return found

    def _receive(self, deadline: float) -> pq.abc.PGresult | None:
        """The next result of the pipeline; None between those of two statements."""
        pgconn = self._pgconn
        while pgconn.flush() or pgconn.is_busy():
            if not select.select([pgconn.socket], [], [], max(0, deadline - clock.now()))[0]:
                raise TimeoutError(f"the server has not answered for {_TIMEOUT:.0f} s")
            pgconn.consume_input()
        return pgconn.get_result()

    def release(self) -> None:
        """Close the session, unless a test still has it; then it ends with the test's connection."""
        self.driver.pgconn = _closed_pgconn()
        if self._owner.is_current and (self._returned or self._lent is None or self._lent() is None):
            self._pgconn.finish()


class _LentConnection(psycopg.Connection[Any]):
    """A connection of a test, which leaves its session open when it is closed after the test.

    It shows the name that the database has now. libpq keeps the one that the session was opened with.
    """

    __module__ = "psycopg"
    __qualname__ = "Connection"
    session: RetainedSession
    database: str

    def close(self) -> None:
        if not self.closed and self.session.accept(self):
            self._closed = True
            self.pgconn = _closed_pgconn()
        else:
            super().close()

    def __repr__(self) -> str:
        return _with_name(super().__repr__(), self)

    @property
    def info(self) -> ConnectionInfo:
        return _Info(self.pgconn, self.database)


class _LentAsyncConnection(psycopg.AsyncConnection[Any]):
    """Like `_LentConnection`; it leaves its session open whenever it is closed."""

    __module__ = "psycopg"
    __qualname__ = "AsyncConnection"
    session: RetainedSession
    database: str

    async def close(self) -> None:
        if not self.closed and self.session.accept(self):
            self._closed = True
            self.pgconn = _closed_pgconn()
        else:
            await super().close()

    def __repr__(self) -> str:
        return _with_name(super().__repr__(), self)

    @property
    def info(self) -> ConnectionInfo:
        return _Info(self.pgconn, self.database)


C = TypeVar("C", _LentConnection, _LentAsyncConnection)


def _with_name(text: str, lent: _LentConnection | _LentAsyncConnection) -> str:
    """The name that the database has now in place of the one that libpq knows."""
    return text if lent.closed else text.replace(lent.pgconn.db.decode(), lent.database)


class _Info(ConnectionInfo):
    """What `ConnectionInfo` says, with the name that the database has now."""

    def __init__(self, pgconn: pq.abc.PGconn, database: str) -> None:
        super().__init__(pgconn)
        self._database = database

    @property
    def dbname(self) -> str:
        return super().dbname and self._database

    def get_parameters(self) -> dict[str, str]:
        return {**super().get_parameters(), "dbname": self._database}


@cache
def _closed_pgconn() -> pq.abc.PGconn:
    """What a psycopg connection has that is closed."""
    # Not by parameters: an environment variable, such as PGHOSTADDR, would complete them, and lead to a server.
    pgconn = pq.PGconn.connect_start(b"malformed")
    pgconn.finish()
    return pgconn


def _text(result: pq.abc.PGresult, row: int, column: int) -> str | None:
    value = result.get_value(row, column)
    return None if value is None else value.decode()


def _library_name(path: str) -> str:
    """``pg_trgm`` for ``$libdir/pg_trgm``."""
    return path.rpartition("/")[2].removesuffix(".so")

"""Engines whose sessions share the one connection of a test, each with a savepoint for its transaction.

To a session it is an ordinary engine. Code that asks the engine itself for a connection is refused. It expects a second
connection to the server, and would get the transaction of the test instead.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

from sqlalchemy import URL, Connection, Dialect, Engine
from sqlalchemy.engine.base import OptionEngineMixin
from sqlalchemy.pool import Pool, PoolProxiedConnection

from elefast.errors import RefusedError
from elefast.isolation.outer_transaction import OWN_DATABASE, Identity, OuterTransaction, SessionScope
from elefast.postgres.driver_errors import driver_message

__all__ = ["SharedConnectionEngine", "SharedConnectionProxy", "closing_fixture", "connect", "shared_dialect"]


class SharedConnectionProxy(PoolProxiedConnection):
    """The one connection of a test, as one session or another user has it from the pool.

    Args:
        transaction: The transaction of the test.
        kind: ``sync`` or ``async``.
        identity: The role and the settings of its statements; None for those of the connection.
    """

    def __init__(self, transaction: OuterTransaction, kind: str, identity: Identity | None = None) -> None:
        self._transaction = transaction
        self._scope = SessionScope(identity)
        self._kind = kind
        self._valid = True
        self._info: dict[Any, Any] = {}
        # SQLAlchemy notes here what to undo before a pool gets the connection back. This one never goes back to one.
        self._connection_record = SimpleNamespace(finalize_callback=deque[Any]())

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]
        """The connection as SQLAlchemy wraps it; the first access opens it."""
        return self._transaction.connect(self._kind)

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        """The driver's own connection; the first access opens it."""
        return getattr(self.dbapi_connection, "driver_connection", self.dbapi_connection)

    @property
    def info(self) -> dict[Any, Any]:
        """A dictionary that no other user of the connection sees."""
        return self._info

    @property
    def record_info(self) -> dict[Any, Any] | None:
        """The same as `info`."""
        return self.info

    @property
    def is_valid(self) -> bool:
        """Whether it can be used."""
        return self._valid

    @property
    def is_detached(self) -> bool:
        """Always false: there is no pool to detach it from."""
        return False

    def executing(self, statement: str) -> AbstractContextManager[None]:
        """Surround the execution of `statement`."""
        self._transaction.connect(self._kind)
        return self._transaction.executing(self._scope, statement)

    def allow_raw_access(self) -> None:
        """Prepare for code that uses the driver itself."""
        self._transaction.allow_raw_access(self._kind, self._scope)

    def cursor(self, *args: Any, **keywords: Any) -> Any:
        """A cursor of the driver."""
        if not _caller().startswith("sqlalchemy."):
            self.allow_raw_access()
        try:
            return self.dbapi_connection.cursor(*args, **keywords)
        except RefusedError:
            # SQLAlchemy would wrap the error here. The execution raises it again, and there it is not wrapped.
            return _NullCursor()

    def commit(self) -> None:
        """Release the savepoint."""
        self._transaction.end_scope(self._scope, commit=True)

    def rollback(self) -> None:
        """Roll back to the savepoint."""
        self._transaction.end_scope(self._scope, commit=False)

    def close(self) -> None:
        """Roll back to the savepoint; the connection stays open for its other users."""
        if self._valid:
            self._valid = False
            self.rollback()

    def detach(self) -> None:
        """Refuse, because the connection belongs to the test.

        Raises:
            RefusedError: Always.
        """
        raise RefusedError(
            f'with isolation = "transaction" the connection belongs to the test; {OWN_DATABASE}',
            code="second-connection",
        )

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Give the transaction up, because a statement left the connection in an unknown state."""
        self._valid = False
        if not soft:
            self._transaction.mark_lost(
                f"left its connection broken: {'invalidated' if e is None else driver_message(e)}"
            )

    def _close_special(self, *, transaction_reset: bool = False) -> None:
        self.close()

    def __getattr__(self, key: str) -> Any:
        return getattr(self.dbapi_connection, key)


class _NullCursor:
    """Stands for a cursor where the execution will be refused."""

    def __getattr__(self, name: str) -> Any:
        def do_nothing(*args: object, **keywords: object) -> None: ...

        return do_nothing


class _SharedConnectionPool(Pool):
    """Gives every user the same connection."""

    def __init__(self, transaction: OuterTransaction, dialect: Dialect, identity: Identity | None) -> None:
        super().__init__(_never, dialect=dialect)
        self.transaction = transaction
        self._identity = identity
        self._kind = "async" if dialect.is_async else "sync"

    def connect(self) -> PoolProxiedConnection:
        __tracebackhide__ = True
        _refuse("pool.connect()")

    def share(self, *, lazy: bool = False) -> PoolProxiedConnection:
        """The connection, for one more user.

        Args:
            lazy: Leave its opening to the first statement.
        """
        proxy = SharedConnectionProxy(self.transaction, self._kind, self._identity)
        if not lazy:
            self.transaction.connect(self._kind)
        return proxy

    def _invalidate(
        self, connection: PoolProxiedConnection, exception: BaseException | None = None, _checkin: bool = True
    ) -> None:
        connection.invalidate(exception)

    def dispose(self) -> None:
        pass

    def recreate(self) -> Pool:
        return self

    def status(self) -> str:
        return "one connection for all"


class _SharedConnection(Connection):
    """A connection of a `SharedConnectionEngine`."""

    @property
    def connection(self) -> PoolProxiedConnection:
        """The proxy. Its use by other code than SQLAlchemy's has to be inside of the transaction as well."""
        proxy = super().connection
        if isinstance(proxy, SharedConnectionProxy) and not _caller().startswith(_SQLALCHEMY_CORE):
            proxy.allow_raw_access()
        return proxy


class SharedConnectionEngine(Engine):
    """An engine for the sessions of one test.

    Args:
        transaction: The transaction of the test.
        original: An engine to the same database.
        dialect: From `shared_dialect`.
        url: The URL that it shows; by default that of `original`.
        identity: The role and the settings of its sessions; None for those of the connection.
    """

    def __init__(
        self,
        transaction: OuterTransaction,
        original: Engine,
        dialect: Dialect,
        *,
        url: URL | None = None,
        identity: Identity | None = None,
    ) -> None:
        pool = _SharedConnectionPool(transaction, dialect, identity)
        echo: Any = original.echo
        # The size is the project's. The cache is the test's, because a test may change how SQL compiles.
        cache: Any = original._compiled_cache
        size = 0 if cache is None else cache.capacity
        super().__init__(
            pool,
            dialect,
            url or original.url,
            echo=echo,
            hide_parameters=original.hide_parameters,
            query_cache_size=size,
        )
        self._execution_options = original.get_execution_options()

    def connect(self) -> Connection:
        """A connection for a session.

        Raises:
            RefusedError: Other code than a session's asked.
        """
        __tracebackhide__ = True
        # A session calls this like any other code, so only the caller tells them apart.
        if _caller() != "sqlalchemy.orm.session":
            _refuse("connect()")
        return self.connect_scope()

    def raw_connection(self) -> PoolProxiedConnection:
        """Refuse: there is no second connection.

        Raises:
            RefusedError: Always.
        """
        __tracebackhide__ = True
        _refuse("raw_connection()")

    def connect_scope(self, *, lazy: bool = False) -> Connection:
        """A connection that has a savepoint for its transaction.

        Args:
            lazy: Leave the opening of the one connection to the first statement.
        """
        pool: Any = self.pool
        return _SharedConnection(self, pool.share(lazy=lazy))

    def dispose(self, close: bool = True) -> None:
        """Do nothing: an application disposes its engine when it ends, and the test goes on."""


class _OptionSharedConnectionEngine(OptionEngineMixin, SharedConnectionEngine):
    """The result of `SharedConnectionEngine.execution_options`."""

    def update_execution_options(self, **opt: Any) -> None:
        Engine.update_execution_options(self, **opt)


SharedConnectionEngine._option_cls = _OptionSharedConnectionEngine  # type: ignore[assignment]  # as SQLAlchemy's Engine does


def shared_dialect(original: Dialect) -> Dialect:
    """A dialect like `original`, without its listeners, that passes each execution to the transaction of its test."""
    dialect: Any = copy.copy(original)
    dialect.__dict__.pop("dispatch", None)

    def in_scope(execute: Callable[..., Any]) -> Callable[..., Any]:
        def executed(cursor: Any, statement: str, *args: Any, **keywords: Any) -> Any:
            context = keywords.get("context", args[-1] if args else None)
            proxy = None if context is None else context.root_connection.connection
            if not isinstance(proxy, SharedConnectionProxy):
                return execute(cursor, statement, *args, **keywords)
            with proxy.executing(statement):
                return execute(cursor, statement, *args, **keywords)

        return executed

    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        setattr(dialect, name, in_scope(getattr(dialect, name)))
    for name, property_ in _TRANSACTION_PROPERTIES.items():
        setattr(dialect, name, _refusing(property_))
    shared: Dialect = dialect
    return shared


def connect(engine: Engine, *, lazy: bool = False) -> Connection:
    """A connection of `engine` for a fixture, also where the engine refuses connections to other code."""
    return engine.connect_scope(lazy=lazy) if isinstance(engine, SharedConnectionEngine) else engine.connect()


@contextmanager
def closing_fixture(engine: Engine) -> Generator[None]:
    """Surround the closing of what a fixture gave out; what cannot be undone by itself is undone with the test."""
    if not isinstance(engine, SharedConnectionEngine):
        yield
        return
    pool: Any = engine.pool
    savepoints = pool.transaction.savepoints
    before, savepoints.only_closing = savepoints.only_closing, True
    try:
        yield
    finally:
        savepoints.only_closing = before


# Methods of a dialect that change a property of the whole transaction, which all sessions of the test share.
_TRANSACTION_PROPERTIES = {
    "set_isolation_level": "isolation level",
    "set_readonly": "access mode",
    "set_deferrable": "deferrable mode",
    "do_begin_twophase": "commit in two phases",
}

# Without sqlalchemy.ext.asyncio and the greenlets that it needs: these act on behalf of the application.
_SQLALCHEMY_CORE = ("sqlalchemy.engine.", "sqlalchemy.dialects.", "sqlalchemy.orm.", __name__)


def _caller() -> str:
    """The module that called the calling function; empty where that function is the first one of a greenlet."""
    frame = sys._getframe(1).f_back  # pyright: ignore[reportPrivateUsage]
    return str(frame.f_globals.get("__name__")) if frame is not None else ""


def _refusing(property_: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **keywords: Any) -> NoReturn:
        __tracebackhide__ = True
        raise RefusedError(
            f'with isolation = "transaction" all of a test is in one transaction, and its {property_} is that one\'s.\n'
            f"Do without, or {OWN_DATABASE}",
            code="transaction-control",
        )

    return refuse


def _refuse(call: str) -> NoReturn:
    __tracebackhide__ = True
    raise RefusedError(
        f'engine.{call} is refused: with isolation = "transaction" a test has one connection, and a second one '
        "would see nothing of what it did.\n"
        f"Use a session or the fixture db_connection or async_db_connection, or {OWN_DATABASE}",
        code="second-connection",
    )


def _never() -> NoReturn:
    raise AssertionError("the pool of a shared connection makes no connections")

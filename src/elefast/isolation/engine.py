"""Engines whose sessions share the one connection of a test, each with a savepoint for its transaction.

To a session it is an ordinary engine. Whoever asks the engine itself for a connection is refused: that one would
not be the second connection that it is taken for.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.engine.base import OptionEngineMixin
from sqlalchemy.pool import Pool, PoolProxiedConnection

from elefast.errors import RefusedError
from elefast.isolation.outer_transaction import OuterTransaction
from elefast.isolation.savepoints import OWN_DATABASE, SessionScope
from elefast.postgres.driver_errors import driver_message

__all__ = ["SharedConnectionEngine", "SharedConnectionProxy", "closing_fixture", "connected", "shared_dialect"]

_RAW = "raw access"
"""In place of a statement that nobody but the driver will see."""


class SharedConnectionProxy(PoolProxiedConnection):
    """The one connection, as one of those who use it has it.

    Args:
        outer: Whose connection it is.
        kind: ``sync`` or ``async``.
    """

    def __init__(self, outer: OuterTransaction, kind: str) -> None:
        self.outer = outer
        self.frame = SessionScope()
        self._kind = kind
        self._valid = True
        self._info: dict[Any, Any] = {}
        # Where SQLAlchemy notes what to undo before a pool has the connection back; it does not get that back.
        self._connection_record = SimpleNamespace(finalize_callback=deque[Any]())

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]
        """The connection; opens it."""
        return self.outer.opened(self._kind)

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        """The driver's own connection; opens it."""
        return getattr(self.dbapi_connection, "driver_connection", self.dbapi_connection)

    @property
    def info(self) -> dict[Any, Any]:
        """Of nobody but this one."""
        return self._info

    @property
    def record_info(self) -> dict[Any, Any] | None:
        """As `info`."""
        return self.info

    @property
    def is_valid(self) -> bool:
        """Whether it can be used."""
        return self._valid

    @property
    def is_detached(self) -> bool:
        """No: there is no pool to leave."""
        return False

    def executing(self, statement: str) -> AbstractContextManager[None]:
        """While `statement` is executed."""
        self.outer.opened(self._kind)
        return self.outer.executing(self.frame, statement)

    def enter(self) -> None:
        """Somebody is about to use the driver itself."""
        self.outer.enter(self._kind, self.frame, _RAW)

    def cursor(self, *args: Any, **keywords: Any) -> Any:
        """A cursor of the driver."""
        if not _caller().startswith("sqlalchemy."):
            self.enter()
        try:
            return self.dbapi_connection.cursor(*args, **keywords)
        except RefusedError:
            # SQLAlchemy would wrap it here, and does not where the statement is executed.
            return _NoCursor()

    def commit(self) -> None:
        """Keep what was done through this one."""
        self.outer.end(self.frame, commit=True)

    def rollback(self) -> None:
        """Undo what was done through this one."""
        self.outer.end(self.frame, commit=False)

    def close(self) -> None:
        """Roll back; the connection stays open for the others."""
        if self._valid:
            self._valid = False
            self.rollback()

    def detach(self) -> None:
        """It belongs to the test."""
        raise RefusedError(
            f'with isolation = "transaction" the connection belongs to the test; {OWN_DATABASE}',
            code="second-connection",
        )

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """A statement ended in a way that leaves the connection in doubt."""
        self._valid = False
        if not soft:
            self.outer.lose(f"left its connection broken: {'invalidated' if e is None else driver_message(e)}")

    def _close_special(self, *, transaction_reset: bool = False) -> None:
        if transaction_reset:
            self._valid = False
        self.close()

    def __getattr__(self, key: str) -> Any:
        return getattr(self.dbapi_connection, key)


class _NoCursor:
    """In place of a cursor that nothing will be executed with."""

    def __getattr__(self, name: str) -> Any:
        def nothing(*args: object, **keywords: object) -> None: ...

        return nothing


class _JoinedPool(Pool):
    """Gives everybody the same connection."""

    def __init__(self, outer: OuterTransaction, dialect: Dialect) -> None:
        super().__init__(_never, dialect=dialect)
        self.outer = outer
        self._kind = "async" if dialect.is_async else "sync"

    def connect(self, *, at_first_use: bool = False) -> PoolProxiedConnection:
        joined = SharedConnectionProxy(self.outer, self._kind)
        if not at_first_use:
            self.outer.opened(self._kind)
        return joined

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


class _JoinedConnection(Connection):
    """A connection of a `SharedConnectionEngine`."""

    @property
    def connection(self) -> PoolProxiedConnection:
        """What goes past SQLAlchemy has to be inside of the transaction, too."""
        joined = super().connection
        if isinstance(joined, SharedConnectionProxy) and not _caller().startswith(_INSIDE):
            joined.enter()
        return joined


class SharedConnectionEngine(Engine):
    """An engine for the sessions of one test.

    Args:
        outer: The transaction of the test.
        original: An engine to the same database.
        dialect: From `shared_dialect`.
    """

    def __init__(self, outer: OuterTransaction, original: Engine, dialect: Dialect) -> None:
        pool = _JoinedPool(outer, dialect)
        echo: Any = original.echo
        # As large as the project wants it. Each test compiles for itself, because a test may change how SQL compiles.
        cache: Any = original._compiled_cache
        size = 0 if cache is None else cache.capacity
        super().__init__(
            pool,
            dialect,
            original.url,
            echo=echo,
            hide_parameters=original.hide_parameters,
            query_cache_size=size,
        )
        self._execution_options = original.get_execution_options()

    def connect(self) -> Connection:
        """For sessions only.

        Raises:
            RefusedError: Somebody else asked.
        """
        __tracebackhide__ = True
        # There is nothing else that a session does differently.
        if _caller() != "sqlalchemy.orm.session":
            _refuse("connect()")
        return self.join()

    def raw_connection(self) -> PoolProxiedConnection:
        """For nobody.

        Raises:
            RefusedError: Always.
        """
        __tracebackhide__ = True
        _refuse("raw_connection()")

    def join(self, *, at_first_use: bool = False) -> Connection:
        """A connection with a transaction of its own inside of the test's.

        Args:
            at_first_use: Do not open the one connection before it is used.
        """
        pool: Any = self.pool
        return _JoinedConnection(self, pool.connect(at_first_use=at_first_use))

    def dispose(self, close: bool = True) -> None:
        """Nothing: applications do that when they end, and the test goes on."""


class _OptionJoinedEngine(OptionEngineMixin, SharedConnectionEngine):
    """What `SharedConnectionEngine.execution_options` gives."""

    def update_execution_options(self, **opt: Any) -> None:
        Engine.update_execution_options(self, **opt)


SharedConnectionEngine._option_cls = _OptionJoinedEngine  # type: ignore[assignment]  # as SQLAlchemy does with its own


def shared_dialect(original: Dialect) -> Dialect:
    """A dialect like `original` that keeps account of what joined connections execute; without its listeners."""
    dialect: Any = copy.copy(original)
    dialect.__dict__.pop("dispatch", None)

    def accounted(execute: Callable[..., Any]) -> Callable[..., Any]:
        def executed(cursor: Any, statement: str, *args: Any, **keywords: Any) -> Any:
            context = keywords.get("context", args[-1] if args else None)
            joined = None if context is None else context.root_connection.connection
            if not isinstance(joined, SharedConnectionProxy):
                return execute(cursor, statement, *args, **keywords)
            with joined.executing(statement):
                return execute(cursor, statement, *args, **keywords)

        return executed

    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        setattr(dialect, name, accounted(getattr(dialect, name)))
    for name, what in _TRANSACTION.items():
        setattr(dialect, name, _refusing(what))
    joined: Dialect = dialect
    return joined


def connected(engine: Engine, *, at_first_use: bool = False) -> Connection:
    """A connection of `engine`, also where it has none to give to everybody."""
    return engine.join(at_first_use=at_first_use) if isinstance(engine, SharedConnectionEngine) else engine.connect()


@contextmanager
def closing_fixture(engine: Engine) -> Generator[None]:
    """While a fixture closes what it gave out: what cannot be undone by itself goes with the test."""
    if not isinstance(engine, SharedConnectionEngine):
        yield
        return
    pool: Any = engine.pool
    frames = pool.outer.frames
    before, frames.lenient = frames.lenient, True
    try:
        yield
    finally:
        frames.lenient = before


# Of the whole transaction, and so not for one of its users to change.
_TRANSACTION = {
    "set_isolation_level": "isolation level",
    "set_readonly": "access mode",
    "set_deferrable": "deferrable mode",
    "do_begin_twophase": "commit in two phases",
}


# Not sqlalchemy.ext.asyncio and the greenlets that it needs: these ask on behalf of somebody else.
_INSIDE = ("sqlalchemy.engine.", "sqlalchemy.dialects.", "sqlalchemy.orm.", __name__)


def _caller() -> str:
    """The module that called the function which asks; empty where that is the first one of a greenlet."""
    frame = sys._getframe(1).f_back  # pyright: ignore[reportPrivateUsage]
    return str(frame.f_globals.get("__name__")) if frame is not None else ""


def _refusing(what: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **keywords: Any) -> NoReturn:
        __tracebackhide__ = True
        raise RefusedError(
            f'with isolation = "transaction" all of a test is in one transaction, and its {what} is that one\'s.\n'
            f"Do without, or {OWN_DATABASE}",
            code="transaction-control",
        )

    return refuse


def _refuse(what: str) -> NoReturn:
    __tracebackhide__ = True
    raise RefusedError(
        f'engine.{what} is refused: with isolation = "transaction" a test has one connection, and a second one '
        "would see nothing of what it did.\n"
        f"Use a session or the fixture db_connection or async_db_connection, or {OWN_DATABASE}",
        code="second-connection",
    )


def _never() -> NoReturn:
    raise AssertionError("a joined pool makes no connections")

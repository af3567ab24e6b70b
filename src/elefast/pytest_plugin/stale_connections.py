"""Refuses connections that the application keeps to the database of a test that is over.

The database exists until elefast has reset or dropped it in the background, so the server accepts such a connection
for a moment. This module checks each connection that a pool of SQLAlchemy hands out in the process of the tests.
It knows SQLAlchemy's pools. It must not know pytest.
"""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool

from elefast.errors import RefusedError
from elefast.isolation.engine_redirect import database_of

__all__ = ["StaleConnections"]

_KEY = "elefast database"
# Modules of elefast that connect to the database of a test that is over, in order to reset or drop it.
_ELEFAST_CALLERS = (
    "elefast.postgres.connections.control_connection",
    "elefast.databases.preconnect",
    "elefast.databases.resetter",
)
_MAX_DEPTH = 5


class StaleConnections:
    """Refuses connections to databases of tests that are over."""

    def __init__(self) -> None:
        self._tests: dict[str, str] = {}
        """The test of each database that was checked out in this process, by the name of the database."""
        self._over: set[str] = set()
        self._open: dict[str, weakref.WeakKeyDictionary[Any, Any]] = {}
        """The pooled connections to the database of each running test, with their pools."""
        self._checked_dialects: weakref.WeakSet[Any] = weakref.WeakSet()
        self._refused: list[str] = []

    def start(self) -> None:
        """Begin to check connections."""
        event.listen(Pool, "checkout", self._check)

    def stop(self) -> None:
        """End the check."""
        if event.contains(Pool, "checkout", self._check):
            event.remove(Pool, "checkout", self._check)

    def begin_test(self, database: str, test: str) -> None:
        """Note that `test` has `database`."""
        self._tests[database] = test
        self._open[database] = weakref.WeakKeyDictionary()

    def end_test(self, database: str) -> None:
        """Refuse connections to `database` from now on, because its test is over."""
        self._over.add(database)
        for record, pool in self._connections(self._open.pop(database, None)):
            # No check-out of its pool comes before the next use of a connection that is still checked out.
            if record.in_use and record.dbapi_connection is not None:
                self._check_statements(pool._dialect)

    def close_idle(self, database: str) -> None:
        """Close idle connections to `database` in sync pools. Async ones can only be closed in their event loop."""
        for _, pool in self._connections(self._open.get(database)):
            if not pool._dialect.is_async:
                pool.dispose()

    @staticmethod
    def _connections(opened: weakref.WeakKeyDictionary[Any, Any] | None) -> list[tuple[Any, Any]]:
        """Pooled connections with their pools, without pools that were deleted."""
        if opened is None:
            return []
        return [(record, pool) for record, reference in list(opened.items()) if (pool := reference()) is not None]

    def take_refused(self) -> list[str]:
        """The refusals since the last call. The application may have caught the errors."""
        refused, self._refused = self._refused, []
        return refused

    def explain(self, text: str) -> str:
        """An explanation where `text`, such as a driver's error, names the database of a test that is over."""
        for name in self._over:
            if name in text:
                return f'"{name}" was the database of {self._tests[name]}, which is over; {_REMEDY}'
        return ""

    def _check(self, connection: Any, record: Any, proxy: Any) -> None:
        """Check a connection that a pool is about to hand out; a listener for ``checkout``."""
        name = record.info.get(_KEY)
        if name is None:
            name = record.info[_KEY] = database_of(connection, proxy._pool)
        if name in self._over:
            if not _is_called_by_elefast():
                self._refuse(name, proxy._pool)
        elif (opened := self._open.get(name)) is not None and record not in opened:
            opened[record] = weakref.ref(proxy._pool)

    def _check_statements(self, dialect: Any) -> None:
        """Check each statement of `dialect`, for connections that were not returned to their pool."""
        if dialect in self._checked_dialects:
            return
        self._checked_dialects.add(dialect)

        def check(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            proxied: Any = context.root_connection.connection if context is not None else None
            record = getattr(proxied, "_connection_record", None)
            name = record.info.get(_KEY) if record is not None else None
            if name in self._over:
                self._refuse(name, proxied._pool)

        event.listen(dialect, "do_execute", check)
        event.listen(dialect, "do_executemany", check)

        @event.listens_for(dialect, "do_execute_no_params")
        def check_plain(cursor: Any, statement: str, context: Any = None) -> None:
            check(cursor, statement, None, context)

    def _refuse(self, name: str, pool: Any) -> NoReturn:
        __tracebackhide__ = True
        origin = _origin(pool)
        message = (
            f"the application is still connected to the database of {self._tests[name]}, which is over"
            f"{f': {origin} has the connection' if origin else ''}.\n{_REMEDY[0].upper()}{_REMEDY[1:]}"
        )
        self._refused.append(message)
        raise RefusedError(message, code="stale-database")


_REMEDY = (
    "an engine, or a URL, is kept from one test to the next. Name the object that keeps it in `patch`: a function with "
    "a cache, such as lru_cache, is cleared before and after each test, and a module's engine is led to the database "
    "of the next test"
)


def _is_called_by_elefast() -> bool:
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_globals.get("__name__") in _ELEFAST_CALLERS:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _origin(pool: Any) -> str:
    """The module's attribute, or the function with a cache, that keeps the engine of a pool; for messages."""
    engines = [one for one in _owners(pool) if isinstance(one, Engine)]
    level: list[Any] = list(engines)
    seen = {id(level), id(engines), *map(id, level)}
    for _ in range(_MAX_DEPTH):
        above: list[Any] = []
        for one in level:
            for name in _names(one):
                return name
            above += [owner for owner in _owners(one) if id(owner) not in seen]
        seen |= {id(above), *map(id, above)}
        level = above
    return ""


def _owners(one: Any) -> Iterator[Any]:
    """The objects that refer to an object, without frames, and with the owner of a dictionary of attributes."""
    for found in gc.get_referrers(one):
        if isinstance(found, dict) and not isinstance(found, ModuleType):
            yield found
            for owner in gc.get_referrers(found):
                if getattr(owner, "__dict__", None) is found:
                    yield owner
        elif type(found).__name__ not in ("frame", "list_iterator", "generator"):
            yield found


def _names(one: Any) -> Iterator[str]:
    if hasattr(one, "cache_clear"):
        yield f"{getattr(one, '__module__', '')}:{getattr(one, '__qualname__', '')}"
    elif isinstance(one, functools.cached_property | type):
        return
    for module in list(sys.modules.values()):
        space: dict[str, Any] | None = getattr(module, "__dict__", None)
        if space is None or module.__name__.partition(".")[0] in ("elefast", "sqlalchemy"):
            continue
        for name, value in list(space.items()):
            if value is one and not name.startswith("__"):
                yield f"{module.__name__}:{name}"

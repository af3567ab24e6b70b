"""Caches the answers to the questions that SQLAlchemy's dialect asks at the first connection of each engine.

Each engine keeps its dialect, pool, events and cache of compiled statements: only the answers are shared.
Where the answers might differ, because of a listener on connections or a change in the database, the dialect asks the
server as usual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import Connection, Engine

from elefast.runtime import clock

__all__ = ["Answers", "DialectCache", "ask", "is_plain", "pid_of", "still_holds"]

Answers = list[Any]

# First what may differ between two databases of one template after something was done in them. Then what a new session
# in this database depends on: when the server read its files, the settings of databases and roles, and the row of the
# database (rights, limits and login triggers). All of it is one round trip of less than 0.1 ms.
_CONDITIONS = "concat(pg_conf_load_time(), array(select s from pg_db_role_setting s where s.setdatabase in (0, d.oid)))"
_QUESTION = f"""
select current_schema(), current_setting('transaction_isolation'), current_setting('standard_conforming_strings'),
       exists (select from pg_type where typname = 'hstore'), pg_backend_pid(), {_CONDITIONS}, d.xmin
from pg_database d where d.datname = current_database()
"""
_CONDITIONS_NOW = f"select {_CONDITIONS} from pg_database d where d.datname = current_database()".encode()
_OF_DIALECTS = 4
"""How many of the answers concern the dialect."""
_PLAIN = (str, int, tuple, type(None))


class DialectCache:
    """The answers that the dialects for one server and one template have got."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, dict[str, Any]]] = {}

    def share(
        self,
        engine: Engine,
        connected: Callable[[float], None],
        answered: Callable[[], Answers | None] = lambda: None,
    ) -> None:
        """Have the first connection of a new `engine` use the cached answers, and fill the cache.

        Args:
            engine: A new engine, not connected yet, to a database of the one template.
            connected: Called once, when the first connection is ready for use, with the seconds that it took.
            answered: Gives the answers that the first connection has just got from `ask`, if it has.
        """
        dialect: Any = engine.dialect
        connect, initialize = dialect.connect, dialect.initialize
        plain = is_plain(engine)
        listeners = _listeners(engine)
        started = 0.0

        # These attributes hide the methods of the class until the first connection is ready.
        def timed_connect(*arguments: Any, **keywords: Any) -> Any:
            nonlocal started
            started = clock.now()
            return connect(*arguments, **keywords)

        def informed_initialize(connection: Connection) -> None:
            # A listener that was added meanwhile may have set up this session in a special way.
            usual = plain and _listeners(engine) == listeners
            # The isolation level of the engine is set after `ask`, so its answer would be out of date.
            answers = None if getattr(dialect, "_on_connect_isolation_level", None) else answered()
            self._initialize(dialect, connection, initialize, usual, answers)
            del dialect.initialize
            if dialect.__dict__.get("connect") is timed_connect:
                del dialect.connect
            if started:
                connected(clock.now() - started)

        dialect.connect, dialect.initialize = timed_connect, informed_initialize

    def _initialize(
        self,
        dialect: Any,
        connection: Connection,
        initialize: Callable[[Connection], None],
        usual: bool,
        answers: Answers | None,
    ) -> None:
        """Initialize `dialect`, with the answers of an earlier one where it would get the same."""
        situation = None
        # Async drivers would need another way to ask, so for them the cache skips the comparison.
        if usual and not dialect.is_async:
            answers = answers or ask(dialect, connection.connection.driver_connection)
            situation = None if answers is None else answers[:_OF_DIALECTS]
        kind = f"{dialect.driver} {dialect.is_async}"
        known = self._known.get(kind)
        attributes: dict[str, Any] = dialect.__dict__
        if usual and known is not None and known[0] == situation:
            attributes.update(known[1])
            return
        before = attributes.copy()
        initialize(connection)
        told: dict[str, Any] = {
            name: value
            for name, value in attributes.items()
            if isinstance(value, _PLAIN) and (name not in before or before[name] is not value)
        }
        # With native hstore, psycopg also changes the adapters of the dialect, which cannot be shared.
        if usual and known is None and not told.get("_has_native_hstore"):
            self._known[kind] = situation, told


def is_plain(engine: Engine) -> bool:
    """Whether the dialect of a new `engine` is SQLAlchemy's, and no listener on a class acts on its connections."""
    if not type(engine.dialect).__module__.startswith("sqlalchemy.dialects.postgresql."):
        return False
    pool: Any = type(engine.pool)(_never)
    return not (_count(engine.dialect, "do_connect") or _count(pool, "connect") or _count(pool, "first_connect"))


def _listeners(engine: Engine) -> tuple[int, int, int]:
    pool = engine.pool
    return _count(engine.dialect, "do_connect"), _count(pool, "connect"), _count(pool, "first_connect")


def _count(target: Any, event: str) -> int:
    return len(list(getattr(target.dispatch, event)))


def _never() -> Any:
    raise AssertionError("this pool never connects")


def pid_of(answers: Answers) -> int:
    """The process id of the backend that gave `answers`."""
    return int(answers[_OF_DIALECTS])


def still_holds(answers: Answers, driver: Any) -> bool:
    """Whether the settings on which new sessions depend are those of `answers`, asked over a psycopg connection."""
    result = driver.pgconn.exec_(_CONDITIONS_NOW)
    return bool(result.ntuples) and result.get_value(0, 0) == answers[_OF_DIALECTS + 1]


def ask(dialect: Any, driver: Any) -> Answers | None:
    """Ask over the connection `driver` of a sync driver for all that a dialect's answers and new sessions depend on.

    A driver that begins transactions has begun one afterwards.

    Returns:
        The answers; None where the connection gives none.
    """
    if dialect.driver == "psycopg":
        # Without a transaction, which would need two more round trips.
        result = driver.pgconn.exec_(_QUESTION.encode())
        return [result.get_value(0, column) for column in range(result.nfields)] if result.ntuples else None
    cursor = driver.cursor()
    try:
        cursor.execute(_QUESTION)
        return list(cast("tuple[Any, ...]", cursor.fetchone()))
    finally:
        cursor.close()

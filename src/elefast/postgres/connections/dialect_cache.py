"""What an engine's dialect asks the server at its first connection, asked once for all engines like it.

Each engine keeps its dialect, pool, events and cache of compiled statements: only the answers are shared.
Where the answers might differ, because of a listener on connections or a change in the database, the dialect asks the
server itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import Connection, Engine

from elefast.runtime import clock

__all__ = ["Answers", "DialectCache", "ask", "is_plain", "pid_of"]

Answers = list[Any]

# What differs between two databases of one template if something was done in them first; then what a new session in
# this database depends on: when the server read its files, the row of the database (its rights, limits and login
# triggers), and settings of databases and roles. One round trip, of less than 0.1 ms.
_QUESTION = """
select current_schema(), current_setting('transaction_isolation'), current_setting('standard_conforming_strings'),
       exists (select from pg_type where typname = 'hstore'), pg_backend_pid(),
       (select concat(pg_conf_load_time(), d.xmin,
                      array(select s from pg_db_role_setting s where s.setdatabase in (0, d.oid)))
        from pg_database d where d.datname = current_database())
"""
_OF_DIALECTS = 4
"""So many of the answers are for a dialect."""
_PLAIN = (str, int, tuple, type(None))


class DialectCache:
    """What the dialects of one server and one template were told."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, dict[str, Any]]] = {}

    def share(
        self,
        engine: Engine,
        connected: Callable[[float], None],
        answered: Callable[[], Answers | None] = lambda: None,
    ) -> None:
        """Spare the first connection of a new `engine` what an earlier one was told.

        Args:
            engine: Fresh from ``create_engine``, to a database of the one template.
            connected: Told once, when the first connection is ready for use, how many seconds it took.
            answered: What the first connection has just been asked, if it was.
        """
        dialect: Any = engine.dialect
        connect, initialize = dialect.connect, dialect.initialize
        plain = is_plain(engine)
        listeners = _listeners(engine)
        started = 0.0

        # Attributes of the object hide the class's methods until the first connection stands.
        def timed_connect(*arguments: Any, **keywords: Any) -> Any:
            nonlocal started
            started = clock.now()
            return connect(*arguments, **keywords)

        def informed_initialize(connection: Connection) -> None:
            # A listener may have set the session up in another way than the next engine's.
            usual = plain and _listeners(engine) == listeners
            # A project's isolation level is set on the connection after it was asked.
            answers = None if getattr(dialect, "_on_connect_isolation_level", None) else answered()
            self._initialize(dialect, connection, initialize, usual, answers)
            del dialect.initialize
            dialect.__dict__.pop("connect", None)
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
        """Initialize `dialect`, with the answers of an earlier one if it would get the same."""
        situation = None
        # Async drivers are spared the round trip.
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
        # With native hstore, psycopg changes its adapters as well, and those are each dialect's own.
        if usual and known is None and not told.get("_has_native_hstore"):
            self._known[kind] = situation, told


def is_plain(engine: Engine) -> bool:
    """Whether a fresh `engine` is SQLAlchemy's own, and nobody listens to the connections of all engines."""
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
    raise AssertionError("this pool is only looked at")


def pid_of(answers: Answers) -> int:
    """The backend of the connection that gave `answers`."""
    return int(answers[_OF_DIALECTS])


def ask(dialect: Any, driver: Any) -> Answers | None:
    """What the answers to a dialect, and new sessions, depend on, as a sync driver's connection tells it.

    Where the driver begins transactions, it has begun one; None where the connection does not answer.
    """
    if dialect.driver == "psycopg":
        # Without a transaction around it, which would be two more round trips.
        result = driver.pgconn.exec_(_QUESTION.encode())
        return [result.get_value(0, column) for column in range(result.nfields)] if result.ntuples else None
    cursor = driver.cursor()
    try:
        cursor.execute(_QUESTION)
        return list(cast("tuple[Any, ...]", cursor.fetchone()))
    finally:
        cursor.close()

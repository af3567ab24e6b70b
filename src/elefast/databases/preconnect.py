"""The next database's engine, with its first connection open before a test asks for it.

The dialect hands the connection over when the engine's pool first connects, so to the test it is a fresh
engine: nothing in its pool, no listeners, and all events still to come.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import NullPool

from elefast.postgres.connections.dialect_cache import Answers, DialectCache, ask, is_plain, pid_of
from elefast.postgres.connections.engines import MaintenanceEngine
from elefast.runtime.process_lifetime import OwnerProcess

__all__ = ["Preconnector"]

_log = logging.getLogger("elefast")

# With one of these, an engine does not connect as its dialect and its connect_args say.
_OTHERWISE = {"creator", "module", "plugins", "pool"}

_PATIENCE = 5.0
"""Seconds that a connection under way may take before nobody waits for it in order to close it."""


class Preconnector:
    """Sync engines for databases, some of them made and connected ahead.

    Args:
        make: Makes an engine to a database; it is not connected.
        options: The ``create_engine`` keywords that `make` uses.
        connected: Told how many seconds the first connection of an engine cost the test.
    """

    def __init__(
        self, make: Callable[[str], Engine], options: Mapping[str, Any], connected: Callable[[float], None]
    ) -> None:
        self._make = make
        self._connect_args: Mapping[str, Any] = options.get("connect_args") or {}
        self._possible = not (_OTHERWISE & options.keys())
        self._connected = connected
        self._dialects = DialectCache()
        self._slots: dict[str, _Reservation] = {}
        self.wanted = False
        """Whether tests use sync engines at all, as far as the last one tells."""

    def reserve(self, name: str) -> _Reservation:
        """A place for the engine of database `name`, for `prepare`; until that has filled it, `engine` waits."""
        slot = _Reservation()
        slot.lock.acquire()
        self._slots[name] = slot
        return slot

    def prepare(self, name: str, slot: _Reservation) -> None:
        """Make the engine of database `name` and connect it; what fails is left to the test, which sees the error."""
        try:
            slot.adapters = _adapters()
            engine = self._make(name)
            if self._possible and is_plain(engine):
                slot.first = _FirstConnection(engine, self._connect_args)
            self._dialects.share(engine, self._connected, slot.answers)
            slot.engine = engine
        except Exception as error:
            _log.info("did not connect to %s ahead: %s", name, error)
        finally:
            slot.lock.release()

    def has(self, name: str) -> bool:
        """Whether database `name` is connected to ahead, or about to be."""
        return name in self._slots

    def is_connected(self, name: str) -> bool:
        """Whether the engine of database `name` is made, and no test has it yet."""
        slot = self._slots.get(name)
        return slot is not None and slot.engine is not None and not slot.lock.locked()

    def engine(self, name: str) -> Engine:
        """A new engine to database `name`: the one that was made ahead, if nobody has it yet."""
        self.wanted = True
        slot = self._slots.get(name)
        if slot is not None:
            with slot.lock:
                slot.claimed = True
                engine, slot.engine = slot.engine, None
            # The dialect of an engine has copied the adapters; what is open closes with the slot.
            if engine is not None and _same(slot.adapters, _adapters()):
                return engine
        engine = self._make(name)
        self._dialects.share(engine, self._connected)
        return engine

    @contextmanager
    def lend(self, name: str) -> Generator[Connection | None]:
        """Make the engine of database `name` and connect it, and lend its connection, as `prepare` does not.

        It is in autocommit mode meanwhile, and must be given back with its session as it was; None where it cannot
        be lent, since engines do not connect in SQLAlchemy's own way.
        """
        slot = self.reserve(name)
        self.prepare(name, slot)
        if slot.first is None:
            yield None
            return
        with slot.first.lend() as connection:
            yield connection

    def withdraw(self, name: str) -> int:
        """Close the connection to database `name`, as its test may connect by itself.

        Returns:
            The backend that goes with that; 0 where there is no such connection, or the engine has it.
        """
        slot = self._slots.get(name)
        if slot is None:
            return 0
        with slot.lock:
            return slot.first.withdraw() if slot.first is not None else 0

    def close(self, name: str) -> None:
        """Close the connection to database `name`, which a test had, if that has not taken it."""
        slot = self._discard(name)
        if slot is not None:
            self.wanted = self.wanted and slot.claimed

    def discard(self, name: str) -> None:
        """Close the connection to database `name`, which no test had and none will have."""
        self._discard(name)

    def _discard(self, name: str) -> _Reservation | None:
        slot = self._slots.pop(name, None)
        # Who was interrupted just after locking it unlocks it no more; what is open then ends with its database.
        if slot is not None and slot.lock.acquire(timeout=_PATIENCE):
            try:
                if slot.first is not None:
                    slot.first.close()
            finally:
                slot.lock.release()
        return slot

    def close_all(self) -> None:
        """Close all that no test has taken."""
        for name in list(self._slots):
            self.discard(name)


class _Reservation:
    """What was made ahead for one database; the lock is held while it is being made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engine: Engine | None = None
        self.first: _FirstConnection | None = None
        self.adapters: list[object] = []
        self.claimed = False

    def answers(self) -> Answers | None:
        """What the engine's first connection was asked when the engine got it."""
        return self.first.answers if self.first is not None else None


class _FirstConnection:
    """A connection that an engine's dialect gives out in place of its first one.

    Args:
        engine: Fresh from ``create_engine``; connected to now.
        connect_args: Those that it was made with.
    """

    def __init__(self, engine: Engine, connect_args: Mapping[str, Any]) -> None:
        dialect: Any = engine.dialect
        self._connect: Callable[..., Any] = dialect.connect
        arguments, keywords = dialect.create_connect_args(engine.url)
        self._way = (list(arguments), {**keywords, **connect_args})
        self._owner = OwnerProcess()
        self._environment = _environment()
        # A list, since taking from it is one step for all threads.
        self._held: list[Any] = [self._connect(*self._way[0], **self._way[1])]
        self._dialect = dialect
        self._url = engine.url
        dialect.connect = self._give
        # A backend reads its catalogs at its first question; it will be asked this one again.
        self._asked = ask(dialect, self._held[0])
        self._held[0].rollback()
        self.answers: Answers | None = None
        """What it was asked when it was given out."""

    @contextmanager
    def lend(self) -> Generator[Connection]:
        """Lend it to elefast itself, as long as nobody else can have it."""
        driver = self._held[0]
        # What connect_args may say. psycopg would also prepare what is more than one statement.
        before = {name: getattr(driver, name) for name in ("autocommit", "prepare_threshold") if hasattr(driver, name)}
        if "prepare_threshold" in before:
            driver.prepare_threshold = None
        pool = _Lending(lambda: driver, dialect=self._dialect, reset_on_return=None)
        self._dialect.set_isolation_level(driver, "AUTOCOMMIT")
        with MaintenanceEngine(pool, self._dialect, self._url).connect() as connection:
            yield connection
        for name, value in before.items():
            setattr(driver, name, value)

    def withdraw(self) -> int:
        """Close it, if it was not given out; the backend that goes with that."""
        if not self._held or not self._owner.is_current:
            return 0
        self.close()
        return pid_of(self._asked) if self._asked else 0

    def close(self) -> None:
        """Close it, if it was not given out."""
        if self._owner.is_current:
            with suppress(IndexError):  # another thread may give it out at this moment
                _close(self._held.pop())

    def _give(self, *arguments: Any, **keywords: Any) -> Any:
        # A forked child must not speak on its parent's connection, and a listener or the test may want another one.
        way = list(arguments), keywords
        if self._owner.is_current and way == self._way and _environment() == self._environment:
            try:
                connection = self._held.pop()
            except IndexError:
                pass
            else:
                if _stands(connection) and self._is_as_new(connection):
                    return connection
                _close(connection)
        return self._connect(*arguments, **keywords)

    def _is_as_new(self, connection: Any) -> bool:
        """Whether a new session would have the same settings and rights, and none has been refused or ended since."""
        try:
            answers = ask(self._dialect, connection)
            connection.rollback()
        except Exception:  # the server has just ended it
            return False
        if answers is None or answers != self._asked:
            return False
        self.answers = answers
        return True


def _adapters() -> list[object]:
    """What is registered with psycopg for all connections: other objects as soon as something else is registered.

    Its maps share their tables with their copies, and a map that was copied makes new tables before it changes them.
    """
    psycopg = sys.modules.get("psycopg")
    if psycopg is None:
        return []
    copied = psycopg.adapt.AdaptersMap(psycopg.adapters)
    found: list[object] = []
    for table in cast("dict[str, Any]", vars(copied)).values():
        if isinstance(table, list):
            found += cast("list[object]", table)
        elif isinstance(table, dict):
            found += cast("dict[object, object]", table).values()
    return found


def _same(before: list[object], now: list[object]) -> bool:
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _environment() -> dict[str, str]:
    """The variables that say how libpq, and drivers like it, connect."""
    return {name: value for name, value in os.environ.items() if name.startswith("PG")}


class _Lending(NullPool):
    """A pool of one connection that is somebody else's, and that it does not close."""

    def _do_return_conn(self, record: Any) -> None:
        pass


def _close(connection: Any) -> None:
    # Some drivers complain where the server has gone before.
    with suppress(Exception):
        connection.close()


def _stands(connection: Any) -> bool:
    """Whether the server has not ended the connection meanwhile; False where the driver does not let us look."""
    socket = connection if hasattr(connection, "fileno") else getattr(connection, "_usock", None)  # pg8000
    try:
        return socket is not None and not select.select([socket], [], [], 0)[0]
    except Exception:  # also what a driver raises of a connection that it knows to be lost
        return False

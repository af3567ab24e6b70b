"""Makes the engine of the next database, and opens its first connection, before a test asks for it.

The dialect hands out the connection when the engine's pool first connects. So for the test it is a new engine: its pool
is empty, it has no listeners, and no event has happened.

Where the driver is psycopg, the session of that connection stays open after the test, and the next test gets it; see
`elefast.postgres.connections.retained_session`.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from sqlalchemy import Connection, Engine

from elefast.postgres.connections.dialect_cache import (
    Answers,
    DialectCache,
    ask,
    is_plain,
    pid_of,
    still_holds,
)
from elefast.postgres.connections.engines import BorrowedConnectionPool, MaintenanceEngine
from elefast.postgres.connections.retained_session import RetainedSession
from elefast.runtime.process_lifetime import OwnerProcess

__all__ = ["Preconnector"]

_log = logging.getLogger("elefast")

# Options with which an engine does not connect by its dialect and its connect_args.
_OTHER_WAYS_TO_CONNECT = {"creator", "module", "plugins", "pool"}

_CLOSE_TIMEOUT = 5.0
"""Seconds to wait for a connection attempt in order to close the connection."""


class Preconnector:
    """Makes sync engines for databases, some of them before tests ask for them.

    Args:
        make: Makes an engine to a database, without connecting.
        options: The ``create_engine`` keywords that `make` uses.
        connected: Called with the seconds that a test waited for the first connection of its engine.
    """

    def __init__(
        self, make: Callable[[str], Engine], options: Mapping[str, Any], connected: Callable[[float], None]
    ) -> None:
        self._make = make
        self._connect_args: Mapping[str, Any] = options.get("connect_args") or {}
        self._possible = not (_OTHER_WAYS_TO_CONNECT & options.keys())
        self._connected = connected
        self._dialects = DialectCache()
        self._reservations: dict[str, _Reservation] = {}
        self.wanted = False
        """Whether tests use sync engines, judged by the last test."""

    def reserve(self, name: str) -> _Reservation:
        """Reserve the engine of database `name` for `prepare`; until that is done, `engine` waits."""
        reservation = _Reservation()
        reservation.lock.acquire()
        self._reservations[name] = reservation
        return reservation

    def prepare(self, name: str, reservation: _Reservation, session: RetainedSession | None = None) -> None:
        """Make the engine of database `name` and connect it. After an error the test connects, and meets the error.

        Args:
            name: The name of the database.
            reservation: What `reserve` has returned.
            session: A session on the database, which the engine gets instead of a new one; see `take_back`.
        """
        try:
            reservation.adapters = _adapters()
            engine = self._make(name)
            if self._possible and is_plain(engine):
                reservation.first = _FirstConnection(engine, self._connect_args, session)
            self._dialects.share(engine, self._connected, reservation.answers)
            reservation.engine = engine
        except Exception as error:
            _log.info("did not connect to %s in advance: %s", name, error)
            if session is not None:
                session.release()
        finally:
            reservation.lock.release()

    def adopt(self, name: str, session: RetainedSession) -> None:
        """Make the engine of database `name` with `session`, which is on that database, as its connection."""
        self.prepare(name, self.reserve(name), session)

    def has(self, name: str) -> bool:
        """Whether database `name` has a connection opened in advance, or is about to have one."""
        return name in self._reservations

    def is_connected(self, name: str) -> bool:
        """Whether the engine of database `name` is made, and no test has got it."""
        reservation = self._reservations.get(name)
        return reservation is not None and reservation.engine is not None and not reservation.lock.locked()

    def engine(self, name: str) -> Engine:
        """A new engine to database `name`: the one that was made in advance, unless a test has got it already."""
        self.wanted = True
        reservation = self._reservations.get(name)
        if reservation is not None:
            with reservation.lock:
                reservation.claimed = True
                engine, reservation.engine = reservation.engine, None
            # The dialect of the engine has copied the adapters, so it must not be used after a change of them.
            if engine is not None and _identical(reservation.adapters, _adapters()):
                return engine
        engine = self._make(name)
        self._dialects.share(engine, self._connected)
        return engine

    def serve_async(self, name: str, engine: Engine, connect_args: Mapping[str, Any]) -> bool:
        """Have the async `engine` of database `name` use the session that was opened in advance; whether it will.

        Args:
            name: The name of the database.
            engine: The sync side of a new async engine on psycopg.
            connect_args: The ``connect_args`` of the engine.
        """
        self.wanted = True
        reservation = self._reservations.get(name)
        if reservation is None:
            return False
        with reservation.lock:
            reservation.claimed = True
            return reservation.first is not None and reservation.first.serve_async(engine, connect_args)

    @contextmanager
    def borrow(self, name: str) -> Generator[Connection | None]:
        """Prepare the engine of database `name`, and use its connection in autocommit mode before a test gets it.

        At the end of the block the settings of the session must be what they were at its beginning. It is None where
        the engine has no connection, because engines do not connect in SQLAlchemy's usual way or an error occurred.
        """
        reservation = self.reserve(name)
        self.prepare(name, reservation)
        if reservation.first is None:
            yield None
            return
        with reservation.first.borrow() as connection:
            yield connection

    def expect_return(self, name: str) -> None:
        """The test that has database `name` is over, and the connections of its engine are about to be closed."""
        reservation = self._reservations.get(name)
        if reservation is not None and reservation.first is not None:
            reservation.first.expect_return()

    def take_back(self, name: str) -> RetainedSession | None:
        """End the use of database `name` by its test, and close the connection, unless the next test may have it.

        Returns:
            The session of the connection that was opened in advance; None where it is closed or in use.
        """
        reservation = self._reservations.pop(name, None)
        if reservation is None:
            return None
        self.wanted = self.wanted and reservation.claimed
        with _locked(reservation) as locked:
            return reservation.first.take_back() if locked and reservation.first is not None else None

    def close_preconnection(self, name: str) -> int:
        """Close the connection to database `name`, because its test may connect without the engine.

        Returns:
            The process id of the backend that ends; 0 where there is no such connection, or the engine has it.
        """
        reservation = self._reservations.get(name)
        if reservation is None:
            return 0
        with reservation.lock:
            return reservation.first.close_unused() if reservation.first is not None else 0

    def close(self, name: str) -> None:
        """Close the connection to database `name`, which a test had, if the test has not used it."""
        reservation = self._discard(name)
        if reservation is not None:
            self.wanted = self.wanted and reservation.claimed

    def discard(self, name: str) -> None:
        """Close the connection to database `name`, which no test had and none will get."""
        self._discard(name)

    def _discard(self, name: str) -> _Reservation | None:
        reservation = self._reservations.pop(name, None)
        if reservation is not None:
            with _locked(reservation) as locked:
                if locked and reservation.first is not None:
                    reservation.first.close()
        return reservation

    def close_all(self) -> None:
        """Close the connections that no test has used."""
        for name in list(self._reservations):
            self.discard(name)


class _Reservation:
    """The engine and connection that were made in advance for one database; the lock is held meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engine: Engine | None = None
        self.first: _FirstConnection | None = None
        self.adapters: list[object] = []
        self.claimed = False

    def answers(self) -> Answers | None:
        """The answers that the first connection gave when the engine got it."""
        return self.first.answers if self.first is not None else None


@contextmanager
def _locked(reservation: _Reservation) -> Generator[bool]:
    """Lock `reservation`; whether that succeeded."""
    # A thread that was interrupted just after it locked never unlocks. Then the connection ends with its database.
    locked = reservation.lock.acquire(timeout=_CLOSE_TIMEOUT)
    try:
        yield locked
    finally:
        if locked:
            reservation.lock.release()


class _FirstConnection:
    """A connection that an engine's dialect hands out instead of opening its first one.

    Args:
        engine: A new engine; this connects to its database at once.
        connect_args: The ``connect_args`` of the engine.
        session: A session on that database, to be used instead of a new connection.
    """

    def __init__(self, engine: Engine, connect_args: Mapping[str, Any], session: RetainedSession | None) -> None:
        dialect: Any = engine.dialect
        self._connect: Callable[..., Any] = dialect.connect
        arguments, keywords = dialect.create_connect_args(engine.url)
        self._connect_parameters = (list(arguments), {**keywords, **connect_args})
        self._owner = OwnerProcess()
        self._environment = _environment()
        self._dialect = dialect
        self._url = engine.url
        self._adopted = session is not None
        self._serves_async = False
        if session is not None:
            if not session.is_like_new_one(self._parameters()):
                raise RuntimeError("a new session would have other parameters than the one that was kept")
            held: Any = session.driver
        else:
            held = self._connect(*self._connect_parameters[0], **self._connect_parameters[1])
            try:
                session = RetainedSession.over(held, engine.url) if RetainedSession.can_lend() else None
            except Exception:
                _close(held)
                raise
            if session is not None:
                session.is_like_new_one(self._parameters())
                held = session.driver
        self._session = session
        """The session, where it may stay open for the next test."""
        self._lock = threading.RLock()
        """Held while the connection passes from elefast to a test or back; a test may connect when it is over."""
        self._held: Any = held
        """The connection, until it is handed out."""
        dialect.connect = self._hand_out
        if session is not None and session.answers is not None:
            self._first_answers: Answers | None = session.answers
        else:
            # The first question makes the backend load its catalogs. The same question is asked again at the hand-out.
            try:
                self._first_answers = ask(dialect, held)
            except Exception:
                self.close()
                raise
        if session is None:
            held.rollback()
        else:
            session.answers = self._first_answers
        self.answers: Answers | None = None
        """What `ask` returned when the connection was handed out."""

    def _parameters(self) -> object:
        arguments, keywords = self._connect_parameters
        return _conditions(self._environment, arguments, keywords)

    @contextmanager
    def borrow(self) -> Generator[Connection]:
        """Use the connection for elefast, while no test can get it."""
        if self._session is not None:
            yield self._session.connection
            return
        driver = self._held
        # These may be set by connect_args. psycopg would also try to prepare a string of several statements.
        before = {name: getattr(driver, name) for name in ("autocommit", "prepare_threshold") if hasattr(driver, name)}
        if "prepare_threshold" in before:
            driver.prepare_threshold = None
        pool = BorrowedConnectionPool(lambda: driver, dialect=self._dialect, reset_on_return=None)
        self._dialect.set_isolation_level(driver, "AUTOCOMMIT")
        with MaintenanceEngine(pool, self._dialect, self._url).connect() as connection:
            yield connection
        for name, value in before.items():
            setattr(driver, name, value)

    def serve_async(self, engine: Engine, connect_args: Mapping[str, Any]) -> bool:
        """Have the async `engine` use the session, one connection after the other."""
        session, dialect = self._session, cast("Any", engine.dialect)
        arguments, keywords = dialect.create_connect_args(engine.url)
        conditions = _conditions(_environment(), list(arguments), {**keywords, **connect_args})
        if session is None or not is_plain(engine) or not RetainedSession.can_lend():
            return False
        with self._lock:
            if self._held is None or not session.is_like_new_one(conditions):
                return False
            self._held, self._serves_async = None, True
        connect = dialect.connect

        def hand_out(*arguments: Any, **keywords: Any) -> Any:
            same = conditions == _conditions(_environment(), list(arguments), keywords)
            with self._lock:
                if not (
                    self._serves_async
                    and same
                    and session.is_returned()
                    and _is_alive(session.driver)
                    and self._is_as_new(session.driver)
                ):
                    return connect(*arguments, **keywords)
                lent = session.lend_async(engine.url.database or "", keywords)

            async def give(*arguments: Any, **keywords: Any) -> Any:
                return lent

            return connect(*arguments, async_creator_fn=give, **keywords)

        dialect.connect = hand_out
        return True

    def expect_return(self) -> None:
        """The connections of the engine are about to be closed, because its test is over."""
        if self._session is not None and self._held is None:
            self._session.expect_return()

    def take_back(self) -> RetainedSession | None:
        """The session, if the test has not used it or has returned it; otherwise close the connection."""
        session = self._session
        if session is None or not self._owner.is_current:
            self.close()
            return None
        with self._lock:
            self._held, self._serves_async = None, False
            if session.is_returned():
                return session
            session.release()
        return None

    def close_unused(self) -> int:
        """Close it if it was not handed out; the process id of its backend, or 0."""
        session = self._session
        with self._lock:
            unused = self._held is not None or (session is not None and session.is_returned())
            if not unused or not self._owner.is_current:
                return 0
            self.close()
        return pid_of(self._first_answers) if self._first_answers else 0

    def close(self) -> None:
        """Close it if it was not handed out."""
        if not self._owner.is_current:
            return
        with self._lock:
            held, self._held, self._serves_async = self._held, None, False
            if held is not None:
                _close(held)
            if self._session is not None:
                self._session.release()

    def _hand_out(self, *arguments: Any, **keywords: Any) -> Any:
        # A forked child must not use its parent's connection, and a listener may have changed the parameters.
        parameters = list(arguments), keywords
        same = parameters == self._connect_parameters
        if self._owner.is_current and same and _environment() == self._environment:
            with self._lock:
                connection, self._held = self._held, None
                if connection is not None:
                    if _is_alive(connection) and self._is_as_new(connection):
                        session = self._session
                        return connection if session is None else session.lend(self._url.database or "", keywords)
                    _close(connection)
        return self._connect(*arguments, **keywords)

    def _is_as_new(self, connection: Any) -> bool:
        """Whether a new session would have the same settings and rights, and the server has not ended this one."""
        try:
            if self._adopted and self._first_answers is not None:
                # Nothing but these can have changed since it was reset.
                self.answers = self._first_answers
                return still_holds(self.answers, connection)
            answers = ask(self._dialect, connection)
            if self._session is None:
                connection.rollback()
        except Exception:  # the server has just ended it
            return False
        if answers is None or answers != self._first_answers:
            return False
        self.answers = answers
        return True


def _adapters() -> list[object]:
    """The adapters registered with psycopg for all connections; a later registration changes the identity of objects.

    psycopg's maps share their tables with their copies, and a copied map replaces a table before it changes it.
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


def _conditions(environment: Mapping[str, str], arguments: Sequence[Any], keywords: Mapping[str, Any]) -> object:
    """What a driver connects by, but for the name of the database and the adapters of an engine."""
    return environment, arguments, {key: value for key, value in keywords.items() if key not in ("dbname", "context")}


def _identical(before: list[object], now: list[object]) -> bool:
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _environment() -> dict[str, str]:
    """The environment variables that tell libpq, and drivers like it, how to connect."""
    return {name: value for name, value in os.environ.items() if name.startswith("PG")}


def _close(connection: Any) -> None:
    # Some drivers raise an error where the server is gone.
    with suppress(Exception):
        connection.close()


def _is_alive(connection: Any) -> bool:
    """Whether the server has not ended the connection; False where the driver gives no access to its socket."""
    socket = connection if hasattr(connection, "fileno") else getattr(connection, "_usock", None)  # pg8000
    try:
        return socket is not None and not select.select([socket], [], [], 0)[0]
    except Exception:  # a driver also raises errors about a connection that it knows to be lost
        return False

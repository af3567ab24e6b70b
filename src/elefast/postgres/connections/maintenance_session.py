"""A session of elefast's own on a server: connects, waits, reconnects, and empties and drops databases.

It checks what the server is before anything else is done on it, and knows nothing of templates and runs.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from elefast.errors import (
    DatabaseNotReadyError,
    ElefastError,
    MissingRightsError,
    RefusedError,
    ServerUnavailableError,
)
from elefast.postgres import databases, driver_errors, server
from elefast.postgres.connections import watchdog
from elefast.postgres.connections.control_connection import ControlConnection, LostConnectionError
from elefast.postgres.databases import ClientSession
from elefast.postgres.drop_blockers import DropBlocker, Leftover, find_blockers, remove_blocker
from elefast.postgres.urls import display_url
from elefast.runtime import clock
from elefast.runtime.signals import close_unfinished

__all__ = ["GRACE", "PATIENCE", "Connector", "MaintenanceSession"]

P = ParamSpec("P")
T = TypeVar("T")
Connector = Callable[[Callable[[Connection], None]], ControlConnection]
"""Makes a link, given what to do on each fresh connection."""

_log = logging.getLogger("elefast")

GRACE = 0.25
"""Seconds that a backend may take to be gone after its client closed it; 1 to 10 ms are usual, more under load."""

PATIENCE = 30.0
"""Seconds that a server may take to answer, once; after it did not, nobody waits for it again."""

_LOOKS = 15
"""So often at least is looked before a backend is taken for one that stays; 0.2 s where nothing holds us up."""


class MaintenanceSession:
    """One connection to a server's maintenance database, and what is done through it; safe to share by threads.

    Args:
        url: The server, for messages.
        links: How to connect to each database that will do for maintenance, best first.
        link_to: How to connect to another database of the server; None where there is no way.
        application: What the session is called in ``pg_stat_activity``.
        requirement: The versions of PostgreSQL that will do, such as ``>=14``; empty for all.
        on_connect: Run on each new connection once the server was found fit.
        ended: Why the server will not answer any more; empty as long as it may.
    """

    def __init__(
        self,
        url: URL,
        links: Sequence[Connector],
        *,
        link_to: Callable[[str], Connector | None] = lambda database: None,
        application: str = "elefast",
        requirement: str = "",
        on_connect: Callable[[Connection], None] = lambda connection: None,
        ended: Callable[[], str] = lambda: "",
    ) -> None:
        self.url = url
        self._links = links
        self._link_to = link_to
        self._application = application
        self._requirement = requirement
        self._on_connect = on_connect
        self._ended = ended
        self._lock = threading.RLock()
        self._link: ControlConnection | None = None
        self._server_info: server.ServerInfo | None = None
        self.reconnects = True
        """Whether a lost connection is opened again; at the end there is nothing worth waiting for."""
        self.connects = 0
        """How often it has connected; locks and ready databases of an earlier connection are gone."""
        self._in_vain = False
        self._may_share_blocks = True
        self._shares_blocks = False

    @property
    def server_info(self) -> server.ServerInfo:
        """What the server is; connects if need be."""
        if self._server_info is None:
            self.patiently()
        assert self._server_info is not None
        return self._server_info

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None and self._link.is_open

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        """Wait until the server answers.

        Args:
            timeout: Seconds to wait at the most.
            interval: Seconds between attempts.

        Raises:
            DatabaseNotReadyError: It did not in time, or never will (a wrong password, no such role, it has ended).
            MissingRightsError: The role may not create databases.
        """
        with self._lock:
            start = clock.now()
            attempts = 0
            while self._link is None or not self._link.is_open:
                attempts += 1
                error = self._connect(max(0.1, start + timeout - clock.now()))
                if error is None:
                    return
                if (final := driver_errors.permanent_error(error, self.url)) is not None:
                    raise final from driver_errors.strip_tracebacks(error)
                if why := self._ended():
                    raise driver_errors.server_ended(why, self.url) from driver_errors.strip_tracebacks(error)
                waited = clock.now() - start
                if waited + interval >= timeout or not self.reconnects:
                    tried = f"{attempts} attempt{'s' if attempts != 1 else ''}"
                    raise driver_errors.not_answering(
                        error, self.url, f"{waited:.1f} s ({tried})"
                    ) from driver_errors.strip_tracebacks(error)
                time.sleep(interval)

    def patiently(self) -> None:
        """Connect if need be; with half a minute's patience the first time, and none after that was in vain.

        Raises:
            DatabaseNotReadyError: There is no connection.
        """
        if self.is_open:
            return
        if not self.reconnects:
            raise DatabaseNotReadyError(
                f"there is no connection to {display_url(self.url)} any more. See the server's log, then run again.",
                code="connection-lost",
            )
        with self._lock:
            try:
                if self._in_vain:
                    self.ensure_ready(timeout=1, interval=1)
                else:
                    self.ensure_ready(PATIENCE)
            except DatabaseNotReadyError:
                self._in_vain = True
                raise
            self._in_vain = False

    def call(self, work: Callable[Concatenate[Connection, P], T], /, *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run ``work(connection, ...)``; once more on a new connection if the first was lost on the way.

        Raises:
            DatabaseNotReadyError: The server went away.
        """
        with self._lock:
            for again in (self.reconnects, False):
                if self.reconnects:
                    self.patiently()
                if self._link is None:
                    raise DatabaseNotReadyError(
                        f"there is no connection to {display_url(self.url)} any more. "
                        "See the server's log, then run again.",
                        code="connection-lost",
                    )
                try:
                    return self._link.call(lambda connection: work(connection, *arguments, **keywords))
                except LostConnectionError as error:
                    place = display_url(self.url)
                    if not again:
                        raise DatabaseNotReadyError(
                            f"lost the connection to {place}: {error}. See the server's log, then run again.",
                            code="connection-lost",
                        ) from error
                    _log.warning("lost the connection to %s, connecting again", place)
        raise AssertionError("unreachable")

    def copy(self, work: Callable[Concatenate[Connection, P], T], /, *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run ``work(connection, ...)``, which copies a database, by the cheapest way that the file system has."""
        try:
            return self.call(work, *arguments, **keywords)
        except DBAPIError as error:
            # What a file system says that cannot share blocks is no error with a code of its own.
            if not self._shares_blocks or driver_errors.sqlstate(error)[:2] not in ("58", "XX"):
                raise
            _log.info("copying files as always: %s", driver_errors.driver_message(error))
            self._may_share_blocks = False
            self._shares_blocks = self.call(server.set_file_copy_method, False)
            return self.call(work, *arguments, **keywords)

    def empty(self, name: str, grace: float = GRACE) -> list[ClientSession]:
        """Wait until nobody is connected to `name`; who stays longer than `grace` seconds is ended, and returned.

        PostgreSQL sleeps 100 ms in DROP, RENAME and CREATE ... TEMPLATE where a session is left, so it is
        cheaper to look every few milliseconds and to come when the database is empty.
        """
        stayed = self.lingering(name, grace)
        if stayed:
            self._end_sessions(name)
        return stayed

    def lingering(self, name: str, grace: float = GRACE) -> list[ClientSession]:
        """The sessions that are still on database `name` after `grace` seconds; they go on."""
        return [] if self._wait_empty(name, grace) else list(self.call(databases.client_sessions, name))

    def drop(self, name: str, grace: float = GRACE) -> list[Leftover]:
        """Drop one of elefast's databases once it is empty; what had to be ended or cleared for that.

        Raises:
            RefusedError: The database is not elefast's, or another role's.
        """
        close_unfinished()
        stayed: list[Leftover] = [*self.lingering(name, grace)]
        if stayed:
            # Before anybody's session is ended, and again by the drop itself.
            if not self.call(databases.check_ownership, name):
                return []
            self._end_sessions(name)
        try:
            self.call(databases.drop, name)
        except DBAPIError as error:
            if driver_errors.sqlstate(error) != "55006":
                raise
            stayed += self.unblock(name)
            # Or somebody connected at the last moment: the dear way, as the last resort.
            try:
                self.call(databases.drop, name, force=True)
            except DBAPIError as denied:
                if driver_errors.sqlstate(denied) != "42501":
                    raise
                raise self._held(name) from denied
        return stayed

    def unblock(self, name: str) -> list[DropBlocker]:
        """Clear what PostgreSQL does not drop one of elefast's databases with; what that was.

        Raises:
            RefusedError: The database is not elefast's, or another role's.
        """
        found = self.call(find_blockers, name)
        if not found or not self.call(databases.check_ownership, name) or (make := self._link_to(name)) is None:
            return []
        link = make(lambda connection: server.configure_session(connection, self._application))
        cleared: list[DropBlocker] = []
        try:
            link.open(PATIENCE)
            for blocker in found:
                link.call(partial(remove_blocker, blocker=blocker))
                cleared.append(blocker)
        except Exception as error:
            # Another role's, or the database does not let us: what PostgreSQL says of the drop tells more.
            _log.info("did not clear %s: %s", name, driver_errors.driver_message(error))
        finally:
            link.close()
        self._wait_empty(name, GRACE)
        return cleared

    def confirm(self) -> None:
        """See that the connection still stands, and open it again if not; costs nothing where it stands."""
        link = self._link
        if link is None or not link.is_quiet:
            self.call(server.ping)

    def give_up(self) -> None:
        """Connect no more, and end the patience of whoever is waiting for a connection."""
        self.reconnects = False

    def settle(self) -> None:
        """See that the connection stands, by one try for another if not, and connect no more after that.

        Raises:
            DatabaseNotReadyError: There is no connection.
        """
        self.give_up()
        with suppress(DatabaseNotReadyError):
            self.confirm()
        self.ensure_ready(timeout=1, interval=1)

    def start_over(self) -> None:
        """Begin anew in a forked child: the connection and the lock are its parent's."""
        self._link = None
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        with self._lock:
            link, self._link = self._link, None
            if link is not None:
                link.close()

    def _end_sessions(self, name: str) -> None:
        if not self.call(databases.terminate, name):
            raise self._held(name)
        self._wait_empty(name, 5)

    def _held(self, name: str) -> MissingRightsError:
        """The error for a database with a session that this role may not end."""
        sessions = "".join(f"\n  {session}" for session in self.call(databases.client_sessions, name))
        return driver_errors.cannot_terminate(name, sessions, self.server_info.role)

    def _wait_empty(self, name: str, seconds: float) -> bool:
        # On a starved machine time alone proves nothing: the backend had as little of it as we.
        enough = _LOOKS if seconds else 1
        deadline = clock.now() + seconds
        delay = 0.001
        looks = 0
        while self.call(databases.client_sessions, name):
            looks += 1
            if clock.now() >= deadline and looks >= enough:
                return False
            time.sleep(delay)
            delay = min(delay * 1.5, 0.02)
        return True

    def _connect(self, timeout: float) -> Exception | None:
        """Open the first link that works; else the reason, for the caller to judge."""
        error: Exception | None = None
        for make in self._links:
            link = make(self._set_up)
            try:
                link.open(timeout)
                self._link = link
            except BaseException as raised:
                link.close()
                # A RuntimeError where the interpreter is about to end and lets nobody start a thread: it will not pass.
                if not isinstance(raised, Exception) or isinstance(raised, (ElefastError, RuntimeError)):
                    raise
                error = raised
                # Only a database that is not there, or not for us, is a reason to try the next one.
                if driver_errors.permanent_error(raised, self.url) is None:
                    break
            else:
                watchdog.watch(link)
                return None
        return error

    def _set_up(self, connection: Connection) -> None:
        server.configure_session(connection, self._application)
        server_info = server.read_server_info(connection)
        place = display_url(self.url)
        if server.is_pooled(connection):
            raise RefusedError(
                f"{place} is a connection pooler, not a server: a session there may change hands, so locks in it "
                "protect nothing. Name PostgreSQL itself in the URL.",
                code="connection-pooler",
            )
        if server_info.in_recovery:
            raise DatabaseNotReadyError(
                f"{place} is a standby or still in recovery; name its primary in the URL.", code="standby"
            )
        if not server_info.can_create_databases:
            raise driver_errors.missing_createdb(server_info.role, self.url)
        version = server_info.version_text
        if self._requirement and not _fits(version, self._requirement):
            raise ServerUnavailableError(
                f'{place} is PostgreSQL {version}, but the project needs postgres = "{self._requirement}". '
                "Use a server of such a version, or change the key.",
                code="wrong-server-version",
            )
        if server_info.version >= 180000 and self._may_share_blocks:
            self._shares_blocks = server.set_file_copy_method(connection, True)
        self._on_connect(connection)
        self._server_info = server_info
        self.connects += 1


def _fits(version: str, requirement: str) -> bool:
    """Whether ``18.1`` is what the project needs."""
    # Most projects say no more than this, and `packaging` takes some milliseconds to import.
    at_least = re.fullmatch(r">=\s*(\d+)", requirement.strip())
    if at_least:
        return int(version.partition(".")[0]) >= int(at_least[1])
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    return Version(version) in SpecifierSet(requirement)

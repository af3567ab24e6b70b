"""A session of elefast on a server: it connects, waits, reconnects, ends other sessions and drops databases.

It checks the server's version and the rights of the role before anything else. It must not know templates and runs.
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
"""Makes a control connection, given the function that prepares each new connection."""

_log = logging.getLogger("elefast")

GRACE = 0.25
"""Seconds that a backend may take to be gone after its client closed it; 1 to 10 ms are usual, more under load."""

PATIENCE = 30.0
"""Seconds that a server may take to answer, the first time. After a failure, later calls wait for one second."""

_MIN_CHECKS = 15
"""How many checks it takes at least to conclude that a backend stays; they take 0.2 s on an idle machine."""


class MaintenanceSession:
    """A connection to a server's maintenance database that is opened again when it is lost; safe for threads.

    Args:
        url: The server, for messages.
        connectors: The connectors to the maintenance databases, the preferred one first.
        connector_to: Gives the connector to another database of the server; None where there is no way.
        application: The name of the session in ``pg_stat_activity``.
        requirement: The versions of PostgreSQL that the project accepts, such as ``>=14``; empty for all.
        on_connect: Called with each new connection after the server has passed the checks.
        ended: Gives the reason why the server will not answer any more; empty while it may.
    """

    def __init__(
        self,
        url: URL,
        connectors: Sequence[Connector],
        *,
        connector_to: Callable[[str], Connector | None] = lambda database: None,
        application: str = "elefast",
        requirement: str = "",
        on_connect: Callable[[Connection], None] = lambda connection: None,
        ended: Callable[[], str] = lambda: "",
    ) -> None:
        self.url = url
        self._connectors = connectors
        self._connector_to = connector_to
        self._application = application
        self._requirement = requirement
        self._on_connect = on_connect
        self._ended = ended
        self._lock = threading.RLock()
        self._connection: ControlConnection | None = None
        self._server_info: server.ServerInfo | None = None
        self.reconnects = True
        """Whether a lost connection is opened again."""
        self.connection_count = 0
        """How many connections there were. Locks of an earlier one are gone, and perhaps idle databases with them."""
        self._last_wait_failed = False
        self._may_share_blocks = True
        self._shares_blocks = False

    @property
    def server_info(self) -> server.ServerInfo:
        """What the server is; connects if need be."""
        if self._server_info is None:
            self.ensure_connected()
        assert self._server_info is not None
        return self._server_info

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None and self._connection.is_open

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        """Wait until the server answers.

        Args:
            timeout: Seconds to wait at most.
            interval: Seconds between attempts.

        Raises:
            DatabaseNotReadyError: It did not answer in time, or never will, such as for a wrong password.
            MissingRightsError: The role may not create databases.
        """
        with self._lock:
            start = clock.now()
            attempts = 0
            while self._connection is None or not self._connection.is_open:
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

    def ensure_connected(self) -> None:
        """Connect if there is no connection: wait up to `PATIENCE` seconds, or one second if the last wait failed.

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
                if self._last_wait_failed:
                    self.ensure_ready(timeout=1, interval=1)
                else:
                    self.ensure_ready(PATIENCE)
            except DatabaseNotReadyError:
                self._last_wait_failed = True
                raise
            self._last_wait_failed = False

    def call(self, work: Callable[Concatenate[Connection, P], T], /, *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run ``work(connection, ...)``; if the connection is lost meanwhile, run it again on a new one.

        Raises:
            DatabaseNotReadyError: The server went away.
        """
        with self._lock:
            for again in (self.reconnects, False):
                if self.reconnects:
                    self.ensure_connected()
                if self._connection is None:
                    raise DatabaseNotReadyError(
                        f"there is no connection to {display_url(self.url)} any more. "
                        "See the server's log, then run again.",
                        code="connection-lost",
                    )
                try:
                    return self._connection.call(lambda connection: work(connection, *arguments, **keywords))
                except LostConnectionError as error:
                    place = display_url(self.url)
                    if not again:
                        raise DatabaseNotReadyError(
                            f"lost the connection to {place}: {error}. See the server's log, then run again.",
                            code="connection-lost",
                        ) from error
                    _log.warning("lost the connection to %s, connecting again", place)
        raise AssertionError("unreachable")

    def copy_database(
        self, work: Callable[Concatenate[Connection, P], T], /, *arguments: P.args, **keywords: P.kwargs
    ) -> T:
        """Run ``work(connection, ...)``, which copies a database; share blocks of files where the file system can."""
        try:
            return self.call(work, *arguments, **keywords)
        except DBAPIError as error:
            # A file system that cannot share blocks causes no particular SQLSTATE.
            if not self._shares_blocks or driver_errors.sqlstate(error)[:2] not in ("58", "XX"):
                raise
            _log.info("copying files without sharing blocks: %s", driver_errors.driver_message(error))
            self._may_share_blocks = False
            self._shares_blocks = self.call(server.set_file_copy_method, False)
            return self.call(work, *arguments, **keywords)

    def end_sessions(self, name: str, grace: float = GRACE) -> list[ClientSession]:
        """Wait until database `name` has no sessions; after `grace` seconds end those that stay, and return them.

        PostgreSQL sleeps for 100 ms in DROP, RENAME and CREATE ... TEMPLATE while a session is left. A check every few
        milliseconds before the statement is faster.
        """
        stayed = self.remaining_sessions(name, grace)
        if stayed:
            self._terminate_sessions(name)
        return stayed

    def remaining_sessions(self, name: str, grace: float = GRACE, *, but: int = 0) -> list[ClientSession]:
        """The sessions, but for backend `but`, that are still on database `name` after `grace` seconds.

        This ends none of them.
        """
        return [] if self._wait_empty(name, grace, but) else list(self.call(databases.client_sessions, name, but))

    def drop(self, name: str, grace: float = GRACE) -> list[Leftover]:
        """Drop a database of elefast once it has no sessions.

        Returns:
            The sessions that had to be ended and the objects that had to be cleared.

        Raises:
            RefusedError: The database is not elefast's, or another role's.
        """
        close_unfinished()
        stayed: list[Leftover] = [*self.remaining_sessions(name, grace)]
        if stayed:
            # Check that the database is elefast's before ending a session on it; the drop checks again.
            if not self.call(databases.check_ownership, name):
                return []
            self._terminate_sessions(name)
        try:
            self.call(databases.drop, name)
        except DBAPIError as error:
            if driver_errors.sqlstate(error) != "55006":
                raise
            stayed += self.clear_blockers(name)
            # A session may have connected at the last moment. FORCE is slow, so it is the last resort.
            try:
                self.call(databases.drop, name, force=True)
            except DBAPIError as denied:
                if driver_errors.sqlstate(denied) != "42501":
                    raise
                raise self._may_not_end(name) from denied
        return stayed

    def clear_blockers(self, name: str) -> list[DropBlocker]:
        """Clear what prevents PostgreSQL from dropping a database of elefast, such as prepared transactions.

        Returns:
            What was cleared.

        Raises:
            RefusedError: The database is not elefast's, or another role's.
        """
        found = self.call(find_blockers, name)
        if not found or not self.call(databases.check_ownership, name) or (make := self._connector_to(name)) is None:
            return []
        inside = make(lambda connection: server.configure_session(connection, self._application))
        cleared: list[DropBlocker] = []
        try:
            inside.open(PATIENCE)
            for blocker in found:
                inside.call(partial(remove_blocker, blocker=blocker))
                cleared.append(blocker)
        except Exception as error:
            # The role may lack the rights. The drop that follows fails with an error that tells more.
            _log.info("did not remove_blocker %s: %s", name, driver_errors.driver_message(error))
        finally:
            inside.close()
        self._wait_empty(name, GRACE)
        return cleared

    def check_connection(self) -> None:
        """Check that the connection is alive, and open it again if not; without a round trip where the socket tells."""
        connection = self._connection
        if connection is None or not connection.is_quiet:
            self.call(server.ping)

    def stop_reconnecting(self) -> None:
        """Connect no more; a thread that waits for a connection gets an error soon."""
        self.reconnects = False

    def reconnect_once(self) -> None:
        """Check the connection, try once to open a lost one again, and connect no more after that.

        Raises:
            DatabaseNotReadyError: There is no connection.
        """
        self.stop_reconnecting()
        with suppress(DatabaseNotReadyError):
            self.check_connection()
        self.ensure_ready(timeout=1, interval=1)

    def after_fork(self) -> None:
        """Forget the connection and the lock in a forked child, because they are its parent's."""
        self._connection = None
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _terminate_sessions(self, name: str) -> None:
        if not self.call(databases.terminate, name):
            raise self._may_not_end(name)
        self._wait_empty(name, 5)

    def _may_not_end(self, name: str) -> MissingRightsError:
        """The error for a database with a session that the role may not end."""
        sessions = "".join(f"\n  {session}" for session in self.call(databases.client_sessions, name))
        return driver_errors.cannot_terminate(name, sessions, self.server_info.role)

    def _wait_empty(self, name: str, seconds: float, but: int = 0) -> bool:
        # On a busy machine time alone proves nothing, because the backend may have had no processor either.
        enough = _MIN_CHECKS if seconds else 1
        deadline = clock.now() + seconds
        delay = 0.001
        checks = 0
        while self.call(databases.client_sessions, name, but):
            checks += 1
            if clock.now() >= deadline and checks >= enough:
                return False
            time.sleep(delay)
            delay = min(delay * 1.5, 0.02)
        return True

    def _connect(self, timeout: float) -> Exception | None:
        """Open a connection by the first connector that works; the error where none does."""
        error: Exception | None = None
        for make in self._connectors:
            connection = make(self._set_up)
            try:
                connection.open(timeout)
                self._connection = connection
            except BaseException as raised:
                connection.close()
                # A RuntimeError means that the interpreter is shutting down and starts no thread; a retry is useless.
                if not isinstance(raised, Exception) or isinstance(raised, (ElefastError, RuntimeError)):
                    raise
                error = raised
                # Only a database that is missing, or closed to this role, is a reason to try the next connector.
                if driver_errors.permanent_error(raised, self.url) is None:
                    break
            else:
                watchdog.watch(connection)
                return None
        return error

    def _set_up(self, connection: Connection) -> None:
        server.configure_session(connection, self._application)
        server_info = server.read_server_info(connection)
        place = display_url(self.url)
        if server.is_pooled(connection):
            raise RefusedError(
                f"{place} is a connection pooler, not a server: it shares sessions between clients, so locks protect "
                "nothing. Use the URL of PostgreSQL itself.",
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
        self.connection_count += 1


def _fits(version: str, requirement: str) -> bool:
    """Whether version ``18.1`` satisfies `requirement`."""
    # Most requirements have this form, and `packaging` takes some milliseconds to import.
    at_least = re.fullmatch(r">=\s*(\d+)", requirement.strip())
    if at_least:
        return int(version.partition(".")[0]) >= int(at_least[1])
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    return Version(version) in SpecifierSet(requirement)

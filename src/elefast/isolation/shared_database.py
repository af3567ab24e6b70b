"""The database that all tests of a process share with ``isolation = "transaction"``, and its one connection.

It also verifies after each test that no other session was in the database: what such a session committed would be
there for the next test.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Dialect, Engine

from elefast.databases.service import DatabaseService
from elefast.errors import RefusedError
from elefast.isolation.engine import SharedConnectionEngine, shared_dialect
from elefast.isolation.lasting_effects import lasting_functions_condition
from elefast.isolation.outer_transaction import OWN_DATABASE, Identity, OuterTransaction
from elefast.postgres.databases import last_reset
from elefast.postgres.roles import settings_of
from elefast.postgres.session_settings import set_config_calls
from elefast.postgres.sql import execute, identifier, literal, rows
from elefast.runtime import clock
from elefast.runtime.process_lifetime import OwnerProcess

__all__ = ["SharedDatabase"]

_GRACE = 1.0
"""Seconds that elefast's own sessions may take to end on the server, where it does not count sessions at once."""


class SharedDatabase:
    """The database and its connection. The sync connection stays open; an async one serves one test and its loop.

    Args:
        service: The service that the database is from.
        name: Its name on the server.
        counts_at_once: Whether the server counts sessions at once. PostgreSQL 14 does so up to half a second later.
        earlier_sessions: The sessions that the server has counted already; an earlier run may have left the database.
    """

    def __init__(self, service: DatabaseService, name: str, *, counts_at_once: bool, earlier_sessions: int) -> None:
        self._service = service
        self.counts_at_once = counts_at_once
        self.name = name
        self._owner = OwnerProcess()
        self._oid = 0
        self._may_have_slots = False
        self._statistics_reset = ""
        """When its statistics were last reset, see `last_reset`."""
        self._has_lasting_functions = False
        self._expected_sessions = earlier_sessions
        self._open_connections = 0
        self._isolation_level = ""
        self._engines: dict[str, Engine] = {}
        self._dialects: dict[str, Dialect] = {}
        self._sync_connection: Connection | None = None
        self._retired = False

    @property
    def usable(self) -> bool:
        """Whether this process checked it out, and further tests may use it."""
        return self._owner.is_current and not self._retired

    def engine(self, kind: str, transaction: OuterTransaction) -> SharedConnectionEngine:
        """An engine for ``sync`` or ``async`` sessions of the test that has `transaction`."""
        original = self._original(kind)
        # A new one for each test: mappers cache compiled statements by dialect, and a test may add listeners to it.
        self._dialects[kind] = shared_dialect(original.dialect)
        url = self._service.test_url(self.name, original.url.drivername, logs_in=not self._switches)
        return SharedConnectionEngine(transaction, original, self._dialects[kind], url=url)

    def role_engine(
        self, kind: str, transaction: OuterTransaction, role: str, settings: Mapping[str, object]
    ) -> SharedConnectionEngine:
        """An engine for sessions that have another role and settings than the connection, for each of their statements.

        Raises:
            ConfigurationError: The role is not declared.
            RefusedError: The server's user may not switch to the role.
        """
        roles = self._service.manager.roles
        url = self._service.test_url(self.name, self._original(kind).url.drivername, role, logs_in=False)
        if role != self._service.role and not roles.can_switch:
            raise RefusedError(
                f'with isolation = "transaction" a test has one connection, and only a superuser can switch it to '
                f'role "{role or roles.server_user}"; "{roles.server_user}" is none.\n'
                f"Let engine.url name a superuser, or {OWN_DATABASE}",
                code="role-in-transaction",
            )
        if kind not in self._dialects:
            self._dialects[kind] = shared_dialect(self._original(kind).dialect)
        identity = _identity(role, self._service.role, settings, switches=roles.can_switch)
        return SharedConnectionEngine(
            transaction, self._original(kind), self._dialects[kind], url=url, identity=identity
        )

    @property
    def _switches(self) -> bool:
        """Whether the connection is the server's user's, and takes the identity of the role that tests have.

        Only such a connection can also take the identity of another role, for sessions of `as_role`.
        """
        return bool(self._service.role) and self._service.manager.roles.can_switch

    # -- the `ConnectionSource` of `OuterTransaction` -----------------------------------------------------------

    def open(self, kind: str) -> Connection:
        """See `elefast.isolation.outer_transaction.ConnectionSource`."""
        if kind == "sync" and self._sync_connection is not None:
            return self._sync_connection
        connection = self._original(kind).connect()
        try:
            self._expected_sessions += 1
            self._open_connections += 1
            self._set_up(kind, connection)
        except BaseException:
            self.release("async", connection)
            raise
        if kind == "sync":
            self._sync_connection = connection
        return connection

    def release(self, kind: str, connection: Connection) -> None:
        """See `elefast.isolation.outer_transaction.ConnectionSource`."""
        if kind == "sync":
            return
        self._open_connections -= 1
        _close_for_good(connection)

    def begin_statement(self) -> str:
        """See `elefast.isolation.outer_transaction.ConnectionSource`."""
        return f"BEGIN ISOLATION LEVEL {self._isolation_level}"

    def exclusive_condition(self) -> str:
        """See `elefast.isolation.outer_transaction.ConnectionSource`."""
        if not self.counts_at_once:
            return ""
        # A reset of the statistics hides earlier sessions.
        not_reset = f"{last_reset(str(self._oid))} = {literal(self._statistics_reset)}"
        return f"pg_stat_get_db_sessions({self._oid}) <= {self._expected_sessions} AND {not_reset}"

    def no_slots_condition(self) -> str:
        """See `elefast.isolation.outer_transaction.ConnectionSource`."""
        if not self._may_have_slots:
            return ""
        return f"NOT EXISTS (SELECT FROM pg_get_replication_slots() WHERE datoid = {self._oid})"

    # -- the end of a test ----------------------------------------------------------------------------------

    def was_alone(self) -> bool:
        """Whether only elefast's own sessions were in the database, as seen from another database."""
        sessions, connected, since = self._service.session_counts(self.name)
        # PostgreSQL 14 sets that time by itself, when it first hears of the database.
        if self.counts_at_once and self._oid and since != self._statistics_reset:
            return False
        if not self.counts_at_once:
            # Sessions that are open now count as well. A backend outlives the connection of its client for a moment.
            deadline = clock.now() + _GRACE
            while connected > self._open_connections and clock.now() < deadline:
                time.sleep(0.005)
                sessions, connected, since = self._service.session_counts(self.name)
            if connected > self._open_connections:
                return False
        return sessions <= self._expected_sessions

    def close_changed_session(self, transaction: OuterTransaction) -> None:
        """Close the sync connection if its session, or the driver's object, may not be as it was before the test."""
        if self._sync_connection is not None and (transaction.session_changed or self._has_lasting_functions):
            self._open_connections -= 1
            self.close()

    def retire(self) -> None:
        """Keep the database from further tests, and close the connection."""
        self._retired = True
        self.close()

    def close(self) -> None:
        """Close the sync connection, but in a forked child only forget it: it is the parent's."""
        connection, self._sync_connection = self._sync_connection, None
        if connection is not None and self._owner.is_current:
            _close_for_good(connection)

    def _original(self, kind: str) -> Engine:
        if kind not in self._engines:
            if self._switches:
                self._engines[kind] = self._service.role_engine(self.name, "", is_async=kind == "async")
            else:
                create = self._service.async_engine if kind == "async" else self._service.engine
                self._engines[kind] = create(self.name)
        return self._engines[kind]

    def _set_up(self, kind: str, connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        if not self._isolation_level:
            if getattr(driver, "autocommit", False):
                raise RefusedError(
                    'isolation_level = "AUTOCOMMIT" in engine.options leaves nothing to roll back; it cannot go '
                    'with isolation = "transaction".\nTake it out, or set isolation = "database"',
                    code="transaction-autocommit",
                )
            self._isolation_level = connection.get_isolation_level()
            driver.rollback()
        if not self._oid:
            self._oid, self._may_have_slots, self._statistics_reset, self._has_lasting_functions = rows(
                connection,
                "SELECT oid::bigint, current_setting('wal_level') = 'logical', "
                f"{last_reset('oid')}, {lasting_functions_condition()} "
                "FROM pg_database WHERE datname = current_database()",
            )[0]
        if self._switches:
            self._assume_role(connection)
        # A commit, so that settings by the project's listeners for "connect" stay.
        driver.commit()
        if connection.dialect.driver == "psycopg2":
            # psycopg2 refuses named cursors in autocommit mode. It sends a BEGIN before this statement, and does not
            # notice its end. So it stays in a transaction as far as it knows, and sends no BEGIN any more.
            with driver.cursor() as cursor:
                cursor.execute("ROLLBACK")
        else:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        if kind in self._dialects:
            # The first connection of an engine tells its dialect what the server can do. The copy was made before.
            initialized, shared = vars(connection.dialect), vars(self._dialects[kind])
            for name, value in initialized.items():
                # With the original's listeners, those that a test adds would stay.
                if name != "dispatch" and (name not in shared or _is_plain(value)):
                    shared[name] = value

    def _assume_role(self, connection: Connection) -> None:
        """Give the session the role of the tests, with the settings that a login of the role would have."""
        role = self._service.role
        calls = set_config_calls(dict(settings_of(connection, role)))
        if calls:
            execute(connection, f"SELECT {', '.join(calls)}")
        execute(connection, f"SET SESSION AUTHORIZATION {identifier(role)}")


def _identity(role: str, tests: str, settings: Mapping[str, object], *, switches: bool) -> Identity:
    """The identity of sessions that have `role` and `settings`, on a connection of a test with role `tests`."""
    saved = {name: f"elefast.saved_{number}" for number, name in enumerate(settings)}
    save = [
        f"set_config({literal(copy)}, coalesce(current_setting({literal(name)}, true), ''), true)"
        for name, copy in saved.items()
    ]
    restore = [f"set_config({literal(name)}, current_setting({literal(copy)}), true)" for name, copy in saved.items()]
    begin, end = ["SELECT 1"], ["SELECT 1"]
    if settings:
        begin = [f"SELECT {', '.join(save)}", f"SELECT {', '.join(set_config_calls(settings, local=True))}"]
        end = [f"SELECT {', '.join(restore)}"]
    if switches and role != tests:
        begin.insert(0, f"SET LOCAL SESSION AUTHORIZATION {identifier(role) if role else 'DEFAULT'}")
        end.append(f"SET LOCAL SESSION AUTHORIZATION {identifier(tests) if tests else 'DEFAULT'}")
    return Identity("; ".join(begin), "; ".join(end))


def _close_for_good(connection: Connection) -> None:
    """Close it and the driver's connection, so that a pool, if the project configures one, does not keep it."""

    def close_driver() -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.close()

    for close in (close_driver, connection.invalidate, connection.close):
        with suppress(Exception):  # a test may have broken it in any way
            close()


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | tuple | type(None))

"""The manager of one process's databases on one server: it creates, drops, keeps and sweeps them.

The manager holds an advisory lock, by which other processes know that its databases are in use.
All servers work through a `DatabaseManager`: sync and async ones, those that a user makes and those of a stack.
It must not know configuration and tests.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from elefast.databases.histogram import Histogram
from elefast.databases.roles import RoleManager, drop_unused_roles
from elefast.databases.spares import SparePool
from elefast.databases.sweeper import SweepScope, sweep
from elefast.errors import ClosedError, DatabaseNotReadyError, ElefastError, RefusedError
from elefast.postgres import (
    advisory_locks,
    database_properties,
    databases,
    driver_errors,
    keepalives,
    server,
    spares,
    sql,
)
from elefast.postgres.connections.control_connection import ControlConnection
from elefast.postgres.connections.maintenance_session import GRACE, PATIENCE, Connector, MaintenanceSession
from elefast.postgres.drop_blockers import Leftover
from elefast.postgres.names import Kind, Name, new_owner, serial_from_number
from elefast.postgres.urls import display_url
from elefast.runtime import clock
from elefast.runtime.process_lifetime import ClosedAtExit, OwnerProcess
from elefast.runtime.signals import defer_interrupts
from elefast.templates.builder import TemplateBuilder
from elefast.templates.options import TemplateOptions
from elefast.templates.recipe import Recipe
from elefast.templates.store import Template

__all__ = ["KEPT_AT_MOST", "DatabaseManager"]

_log = logging.getLogger("elefast")

KEPT_AT_MOST = 20
"""How many kept databases of a project stay; its next sweep drops older ones."""

_NAME_TAKEN = ("42P04", "23505")
"""SQLSTATEs of a name in use. This process has used it, over a connection that was lost before the answer came."""


class DatabaseManager:
    """The databases of one process on one server.

    Args:
        url: The server, with the password; migrators connect by it.
        connectors: The connectors to the maintenance databases, the preferred one first.
        connector_to: Gives the connector to another database; None where there is no way.
        recipe: What templates are built from; None for empty databases.
        options: How templates are made and kept, and how databases are copied.
        owned: Whether elefast started the server, so that it may drop roles and other objects that migrations left.
        requirement: The versions of PostgreSQL that the project accepts, such as ``>=14``.
        ended: Gives the reason why the server will not answer any more; empty while it may.
        roles: The roles that exist before a template is built; None for none.
    """

    def __init__(
        self,
        url: URL,
        connectors: Sequence[Connector],
        *,
        connector_to: Callable[..., Connector | None] = lambda *_, **__: None,
        recipe: Recipe | None = None,
        options: TemplateOptions | None = None,
        owned: bool = False,
        requirement: str = "",
        ended: Callable[[], str] = lambda: "",
        roles: RoleManager | None = None,
    ) -> None:
        self.url = url
        self.roles = roles or RoleManager((), project="", owned=owned)
        """The roles that tests can connect as."""
        self.run = new_owner()
        self.clones = Histogram()
        """How long it took to create each database."""
        self.drops = Histogram()
        """How long it took to drop each, including the wait for the end of its sessions."""
        self._connectors = connectors
        self._connector_to = connector_to
        self._options = options or TemplateOptions()
        self._requirement = requirement
        self._ended = ended
        self._numbers = count(1)
        self._owner = OwnerProcess()
        self._building = threading.RLock()
        self._swept = False
        self.sweeps = True
        """Whether it begins with a sweep. Commands that only look at the server must not change it."""
        self._closed = False
        self._templates: TemplateBuilder | None = None
        self._spare_pool = SparePool()
        self.session = self._new_session("run", self._lock_run)
        self._templates = (
            None
            if recipe is None
            else TemplateBuilder(
                self.session,
                recipe,
                link_to=connector_to,
                run=self.run,
                options=self._options,
                owned=owned,
            )
        )
        _open.add(self)

    @property
    def templates(self) -> TemplateBuilder | None:
        """The builder of the templates that databases are copied from; None where databases are empty."""
        return self._templates

    def ensure_ready(self, timeout: float | None = None, interval: float = 0.5) -> None:
        """Wait until the server answers.

        Args:
            timeout: Seconds to wait at most; None as for `MaintenanceSession.ensure_connected`.
            interval: Seconds between attempts.
        """
        if self._closed:
            raise ClosedError(f"the server {display_url(self.url)} was closed; make another one.", code="closed")
        if not self._owner.is_current:
            self._after_fork()
        if timeout is None:
            self.session.ensure_connected()
        else:
            self.session.ensure_ready(timeout, interval)
        if not self._swept and self.sweeps:
            with self._building:
                if not self._swept:
                    self._swept = True
                    self.sweep()

    def template(self, encoding: str = "utf8", scenario: str = "") -> Template | None:
        """The template in `encoding`, built if there is no valid one; None where databases are empty.

        Args:
            encoding: The server encoding.
            scenario: The scenario; empty for the state after migrator and seeds.

        Raises:
            ConfigurationError: There is no such scenario.
            MigrationError: It could not be built.
        """
        self.ensure_ready()
        with self._building:
            # Migrations, seeds and dumps may mention them.
            self.roles.ensure(self.session)
            return None if self._templates is None else self._templates.get(encoding, scenario)

    def facts(self, encoding: str = "utf8", scenario: str = "") -> Mapping[str, Any]:
        """What the seed functions of a state returned; a new read-only mapping, empty before its first database.

        Args:
            encoding: The server encoding.
            scenario: The scenario.
        """
        found = self._templates.facts(encoding, scenario) if self._templates is not None else "{}"
        return MappingProxyType(json.loads(found))

    def new_name(self, prefix: str = "elefast", kind: Kind = Kind.CLONE) -> Name:
        """A new name for a database of this run."""
        return Name(prefix, kind, self.run, serial_from_number(next(self._numbers)))

    def create(
        self,
        prefix: str = "elefast",
        encoding: str = "utf8",
        session: MaintenanceSession | None = None,
        scenario: str = "",
    ) -> tuple[str, Template | None]:
        """Create a database.

        Args:
            prefix: What its name begins with.
            encoding: The server encoding, such as ``utf8``.
            session: The session to use, if not that of the manager.
            scenario: The scenario that it starts from.

        Returns:
            The name of the database, and the template that it is a copy of; None for an empty database.
        """
        using = session or self.session
        for again in (True, False):
            made = self.template(encoding, scenario)
            name = self.new_name(prefix)
            start = clock.now()
            try:
                if made is None or not self._spare_pool.take(using, made.name, name):
                    using.copy_database(self._clone, name, made, encoding)
                if using.server_info.is_remote:
                    using.call(keepalives.set_for_database, str(name))
            except DBAPIError as error:
                state = driver_errors.sqlstate(error)
                if again and state in _NAME_TAKEN:
                    continue
                if state == "55006" and made is not None and (found := self._template_in_use(made.name)) is not None:
                    raise found from error
                # Another process dropped or opened the template. Any other error is for the user to see.
                if not again or self._templates is None or state not in ("3D000", "55006"):
                    raise self._translated(error) from error
                self._templates.forget(encoding, scenario)
            else:
                self.clones.add(clock.now() - start)
                return str(name), made
        raise AssertionError("unreachable")

    def copy(self, source: Template, kind: Kind = Kind.CLONE) -> Name:
        """Create a copy of `source`, a database without sessions; the name of the copy.

        Args:
            source: The database, and the statements for properties that a copy does not get from it.
            kind: The purpose of the copy.

        Raises:
            DBAPIError: A session is connected to `source` (SQLSTATE 55006).
            ElefastError: The server could not do it for another reason.
        """
        start = clock.now()
        name = self.new_name(kind=kind)
        for again in (True, False):
            try:
                self.session.copy_database(self._clone, name, source, "")
                if self.session.server_info.is_remote:
                    self.session.call(keepalives.set_for_database, str(name))
            except DBAPIError as error:
                state = driver_errors.sqlstate(error)
                if again and state in _NAME_TAKEN:
                    name = self.new_name(kind=kind)
                    continue
                if state == "55006":
                    raise
                raise self._translated(error) from error
            break
        self.clones.add(clock.now() - start)
        return name

    def drop(self, name: str, session: MaintenanceSession | None = None, grace: float = GRACE) -> list[Leftover]:
        """Drop a database of elefast, once its sessions have ended.

        Args:
            name: Its name.
            session: The session to use, if not that of the manager.
            grace: Seconds that its sessions may take to end; then they are ended.

        Returns:
            The sessions that had to be ended and the objects that had to be cleared.

        Raises:
            RefusedError: The database is not elefast's, or another role's.
        """
        if session is None:
            self.ensure_ready()
        start = clock.now()
        try:
            return (session or self.session).drop(name, grace)
        except DBAPIError as error:
            raise self._translated(error) from error
        finally:
            self.drops.add(clock.now() - start)

    def keep_database(self, name: str, note: str) -> tuple[str, list[Leftover]]:
        """Keep a database for inspection, with `note` as its comment.

        Sweeps leave the newest kept databases of a project; see `KEPT_AT_MOST`.

        Returns:
            Its new name, and the sessions and objects that had to be ended or cleared.
        """
        parsed = Name.parse(name)
        if parsed is None or parsed.owner != self.run:
            raise RefusedError(f'database "{name}" is not kept: it is not one of this run.', code="foreign-database")
        stayed: list[Leftover] = [*self.session.end_sessions(name), *self.session.clear_blockers(name)]
        kept = Name(parsed.prefix, Kind.KEPT, parsed.owner, parsed.serial)
        self.session.call(databases.comment, name, note)
        try:
            self.session.call(databases.rename, name, kept)
        except DBAPIError:
            # After a lost connection the rename is repeated, and fails if the first one has succeeded.
            if not self.session.call(databases.exists, str(kept)):
                raise
        return str(kept), stayed

    def size(self) -> int:
        """The approximate size of a new database, in bytes."""
        made = self.template()
        return self.session.call(databases.size, made.name if made is not None else "template0")

    @property
    def strategy(self) -> str:
        """How databases are copied on this server; empty where it has no choice."""
        return self.session.server_info.strategy(self._options.strategy)

    def open_session(self, purpose: str) -> MaintenanceSession:
        """Open another session on the server, for a thread; the caller closes it."""
        return self._new_session(purpose, lambda connection: None)

    def open_connection(self, name: str, purpose: str) -> ControlConnection:
        """Open a connection to database `name`, on which no event trigger fires; the caller closes it.

        Raises:
            ElefastError: There is no way to the database, because the engine of the server has a custom creator.
        """
        info = self.session.server_info
        settings = {"settings": server.NO_EVENT_TRIGGERS} if info.superuser and info.version >= 170000 else {}
        make = self._connector_to(name, **settings)
        if make is None:
            raise ElefastError(
                "the engine of the server has a creator, which connects to one database only, so elefast cannot read "
                "another one.\nMake the server from a URL",
                code="creator-of-one-database",
            )
        application = f"elefast {purpose} {self.run}"
        connection = make(lambda opened: server.configure_session(opened, application))
        try:
            connection.open(PATIENCE)
        except BaseException:
            connection.close()
            raise
        return connection

    def sweep(self, scope: SweepScope | None = None) -> list[str]:
        """Drop what dead runs have left, never by force; the names of the dropped databases.

        Args:
            scope: What else to drop; by default the oldest kept databases of the project beyond `KEPT_AT_MOST`.
        """
        # While another thread of this process builds a template, the sweep would see an incomplete one.
        with self._building:
            ours = set(self._templates.names) if self._templates is not None else set[str]()
            return sweep(self.session, self.run, ours, scope or SweepScope(self._options.project, KEPT_AT_MOST))

    def prune_roles(self, project: str | None) -> tuple[list[str], dict[str, str]]:
        """Drop the roles that elefast has created for `project` and that no template needs any more; see `roles`."""
        with self._building:
            return drop_unused_roles(self.session, project)

    @defer_interrupts()
    def close(
        self, *, unused: Mapping[str, Sequence[str]] | None = None, spare_limit: int = 0, server_ends: bool = False
    ) -> None:
        """Drop what this process still has on the server and disconnect; safe to repeat, raises no error.

        A first Ctrl-C meanwhile takes effect afterwards.

        Args:
            unused: Unused databases in ``utf8`` by scenario, which may become spares for the next run.
            spare_limit: How many spares there may be on the server for each template.
            server_ends: Whether the server ends with all its databases, so that nothing needs to be dropped.
        """
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
        if not self._owner.is_current:
            self.session.after_fork()
        elif self.session.connection_count:
            try:
                # An interrupt may have broken the connection.
                self.session.reconnect_once()
                if not server_ends:
                    for scenario, names in (unused or {}).items():
                        self._leave_spares(scenario, names, spare_limit)
                    self._drop_all()
            except Exception as error:
                # The sweep of the next run drops the rest.
                _log.info("left some of %s to a later sweep: %s", display_url(self.url), error)
        self.session.close()

    def _leave_spares(self, scenario: str, unused: Sequence[str], limit: int) -> None:
        if unused and self._templates is not None and (kept := self._templates.reusable_template("utf8", scenario)):
            self.session.call(spares.add, kept, unused, limit)

    def _drop_all(self) -> None:
        call = self.session.call
        ours = [
            entry
            for entry in call(databases.own_databases)
            if entry.name.kind in (Kind.CLONE, Kind.SNAPSHOT, Kind.FAILED) and entry.name.owner == self.run
        ]
        for entry in ours:
            if entry.busy:
                call(databases.terminate, entry.text)
        for entry in ours:
            try:
                self.session.drop(entry.text, grace=1)
            except (DBAPIError, ElefastError) as error:
                if not self.session.is_open:
                    raise
                # A database that stays in use is no reason to leave the others.
                _log.warning("%s was not dropped: %s", entry.text, driver_errors.driver_message(error))
        if self._templates is not None:
            self._templates.close()

    def _clone(self, connection: Connection, name: Name, made: Template | None, encoding: str) -> None:
        strategy = self.session.server_info.strategy(self._options.strategy)
        if made is None:
            databases.create(connection, name, encoding=encoding, strategy=strategy)
            return
        databases.clone(connection, name, template=made.name, strategy=strategy)
        for statement in database_properties.statements_for(made.replay, str(name)):
            sql.execute(connection, statement)

    def _new_session(self, purpose: str, on_connect: Callable[[Connection], None]) -> MaintenanceSession:
        return MaintenanceSession(
            self.url,
            self._connectors,
            connector_to=self._connector_to,
            application=f"elefast {purpose} {self.run}",
            requirement=self._requirement,
            on_connect=on_connect,
            ended=self._ended,
        )

    def _lock_run(self, connection: Connection) -> None:
        # A sweep of another process may try this lock for a moment, so this waits for it.
        advisory_locks.acquire(connection, self.run)
        self.roles.lock_on(connection)
        if self._templates is not None:
            self._templates.lock_on(connection)

    def _after_fork(self) -> None:
        """Begin a new run in a forked child, which must use neither the connection nor the databases of its parent."""
        self.session.after_fork()
        self._owner = OwnerProcess()
        self.run = new_owner()
        self._building = threading.RLock()
        self._spare_pool = SparePool()
        self.roles.forget()

    def holders(self, error: BaseException) -> list[str]:
        """The sessions that use up the server's connections, if `error` says so and this process has a connection."""
        if not driver_errors.no_connections_left(error) or not self.session.is_open:
            return []
        return self.session.call(server.connection_holders)

    def _template_in_use(self, template: str) -> ElefastError | None:
        """The error for a sealed template that a session is connected to nevertheless; None where that is not so."""
        if template not in {entry.text for entry in self.session.call(databases.own_databases) if entry.sealed}:
            return None
        sessions = "".join(f"\n  {session}" for session in self.session.call(databases.client_sessions, template))
        return DatabaseNotReadyError(
            f"template {template} on {display_url(self.url)} cannot be copied while a session is connected to it:"
            f"{sessions}\n"
            "End that session; if something was changed in it, drop the template as well: elefast template drop.",
            code="template-in-use",
        )

    def _translated(self, error: DBAPIError) -> ElefastError:
        state, text = driver_errors.sqlstate(error), driver_errors.driver_message(error)
        place = display_url(self.url)
        if state == "42501":
            return driver_errors.missing_createdb(self.session.server_info.role, self.url)
        code, advice = {
            "53100": ("server-disk-full", " The disk is full: free some space and run again."),
            "53300": ("too-many-connections", " Raise max_connections, or use fewer connections at once."),
        }.get(state, ("server-failed", " The server's log may say more."))
        return DatabaseNotReadyError(f"{place} could not do its work: {text}.{advice}", code=code)


_open = ClosedAtExit[DatabaseManager]()

"""One process's hold on one server: its sign of life, and the databases that it makes, drops and keeps.

All servers work through a `DatabaseManager`, sync and async, public and of a stack.
It knows no configuration and no tests.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from itertools import count

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError

from elefast.databases.histogram import Histogram
from elefast.databases.sweeper import Scope, SparePool, sweep
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
from elefast.postgres.connections.maintenance_session import GRACE, Connector, MaintenanceSession
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
"""So many databases of a project that were kept for a look stay; older ones go with its next sweep."""

_MADE = ("42P04", "23505")
"""The name is taken, or being taken: by ourselves, over a connection that was lost before the answer came."""


class DatabaseManager:
    """What one process does on one server.

    Args:
        url: The server, with the password; databases are built through it.
        links: How to connect to each database that will do for maintenance, best first.
        link_to: How to connect to another database; None where there is no way.
        recipe: What databases are made from; None for empty ones.
        options: How templates are made and kept, and how databases are copied.
        owned: Whether elefast started the server, so that what migrations leave in it may go.
        requirement: The versions of PostgreSQL that will do, such as ``>=14``.
        ended: Why the server will not answer any more; empty as long as it may.
    """

    def __init__(
        self,
        url: URL,
        links: Sequence[Connector],
        *,
        link_to: Callable[..., Connector | None] = lambda *_, **__: None,
        recipe: Recipe | None = None,
        options: TemplateOptions | None = None,
        owned: bool = False,
        requirement: str = "",
        ended: Callable[[], str] = lambda: "",
    ) -> None:
        self.url = url
        self.run = new_owner()
        self.clones = Histogram()
        """What it took to make each database."""
        self.drops = Histogram()
        """What it took to drop each, with the wait for its sessions to be gone."""
        self._links = links
        self._link_to = link_to
        self._options = options or TemplateOptions()
        self._requirement = requirement
        self._ended = ended
        self._numbers = count(1)
        self._owner = OwnerProcess()
        self._building = threading.RLock()
        self._swept = False
        self.sweeps = True
        """Whether it begins with a sweep; who only looks must not change what there is."""
        self._closed = False
        self._templates: TemplateBuilder | None = None
        self._leftovers = SparePool()
        self.session = self._new_session("run", self._show_life)
        self._templates = (
            None
            if recipe is None
            else TemplateBuilder(
                self.session,
                recipe,
                link_to=link_to,
                run=self.run,
                options=self._options,
                owned=owned,
            )
        )
        _open.add(self)

    @property
    def templates(self) -> TemplateBuilder | None:
        """What databases are copied from; None where they are empty."""
        return self._templates

    def ensure_ready(self, timeout: float | None = None, interval: float = 0.5) -> None:
        """Wait until the server answers.

        Args:
            timeout: As for `MaintenanceSession.ensure_ready`; without it `MaintenanceSession.patiently` waits.
            interval: Seconds between attempts.
        """
        if self._closed:
            raise ClosedError(f"the server {display_url(self.url)} was closed; make another one.", code="closed")
        if not self._owner.is_current:
            self._after_fork()
        if timeout is None:
            self.session.patiently()
        else:
            self.session.ensure_ready(timeout, interval)
        if not self._swept and self.sweeps:
            with self._building:
                if not self._swept:
                    self._swept = True
                    self.sweep()

    def template(self, encoding: str = "utf8") -> Template | None:
        """The template in `encoding`, built if there is none that fits; None where databases are empty.

        Raises:
            MigrationError: It could not be built.
        """
        self.ensure_ready()
        if self._templates is None:
            return None
        with self._building:
            return self._templates.get(encoding)

    def new_name(self, prefix: str = "elefast") -> Name:
        """A name that no database of this run has had, for one of its databases."""
        return Name(prefix, Kind.CLONE, self.run, serial_from_number(next(self._numbers)))

    def create(self, prefix: str = "elefast", encoding: str = "utf8") -> str:
        """Create a database; its name. See `make`."""
        return self.make(prefix, encoding)[0]

    def make(
        self, prefix: str = "elefast", encoding: str = "utf8", session: MaintenanceSession | None = None
    ) -> tuple[str, Template | None]:
        """Create a database.

        Args:
            prefix: What its name begins with.
            encoding: The server encoding, such as ``utf8``.
            session: The session to do it through, if not the control's own.

        Returns:
            Its name, and the template that it is a copy of; None for an empty one.
        """
        using = session or self.session
        for again in (True, False):
            made = self.template(encoding)
            name = self.new_name(prefix)
            start = clock.now()
            try:
                if made is None or not self._leftovers.take(using, made.name, name):
                    using.copy(self._clone, name, made, encoding)
                if using.server_info.is_remote:
                    using.call(keepalives.set_for_database, str(name))
            except DBAPIError as error:
                state = driver_errors.sqlstate(error)
                if again and state in _MADE:
                    continue
                if state == "55006" and made is not None and (found := self._in_use(made.name)) is not None:
                    raise found from error
                # Somebody dropped or opened the template. Anything else is for the user to see.
                if not again or self._templates is None or state not in ("3D000", "55006"):
                    raise self._explained(error) from error
                self._templates.forget(encoding)
            else:
                self.clones.add(clock.now() - start)
                return str(name), made
        raise AssertionError("unreachable")

    def drop(self, name: str, session: MaintenanceSession | None = None, grace: float = GRACE) -> list[Leftover]:
        """Drop one of elefast's databases, once its sessions have gone; what had to be ended or cleared for that.

        Args:
            name: Its name.
            session: The session to do it through, if not the control's own.
            grace: Seconds that its sessions may take to be gone.

        Raises:
            RefusedError: The database is not elefast's, or another role's.
        """
        if session is None:
            self.ensure_ready()
        start = clock.now()
        try:
            return (session or self.session).drop(name, grace)
        except DBAPIError as error:
            raise self._explained(error) from error
        finally:
            self.drops.add(clock.now() - start)

    def keep_database(self, name: str, note: str) -> tuple[str, list[Leftover]]:
        """Keep a database for a look, with `note` as its comment.

        It survives sweeps until newer ones push it out.

        Returns:
            Its new name, and what had to be ended or cleared for that.
        """
        parsed = Name.parse(name)
        if parsed is None or parsed.owner != self.run:
            raise RefusedError(f'database "{name}" is not kept: it is not one of this run.', code="foreign-database")
        stayed: list[Leftover] = [*self.session.empty(name), *self.session.unblock(name)]
        kept = Name(parsed.prefix, Kind.KEPT, parsed.owner, parsed.serial)
        self.session.call(databases.comment, name, note)
        try:
            self.session.call(databases.rename, name, kept)
        except DBAPIError:
            # The connection was lost in the middle, and what was done is done again.
            if not self.session.call(databases.exists, str(kept)):
                raise
        return str(kept), stayed

    def size(self) -> int:
        """Bytes of a new database, about."""
        made = self.template()
        return self.session.call(databases.size, made.name if made is not None else "template0")

    @property
    def strategy(self) -> str:
        """How databases are copied on this server; empty where it has no choice."""
        return self.session.server_info.strategy(self._options.strategy)

    def open_session(self, purpose: str) -> MaintenanceSession:
        """Another session on the server, for a thread; the caller closes it."""
        return self._new_session(purpose, lambda connection: None)

    def sweep(self, scope: Scope | None = None) -> list[str]:
        """Drop what dead runs left, by their free locks, never by force; the names of what went.

        Args:
            scope: What else goes; without it the project's oldest kept databases, where there are too many.
        """
        # What this process builds is not there while nobody else of it is at work.
        with self._building:
            ours = set(self._templates.names) if self._templates is not None else set[str]()
            return sweep(self.session, self.run, ours, scope or Scope(self._options.project, KEPT_AT_MOST))

    @defer_interrupts()
    def close(self, *, unused: Sequence[str] = (), leave: int = 0, passing: bool = False) -> None:
        """Drop what this process still has on the server and let go of it; safe to repeat, raises no error.

        A first Ctrl-C meanwhile waits for its end.

        Args:
            unused: Databases in ``utf8`` as the template made them, of which the next run may have some.
            leave: How many of such databases may be left on the server for each template.
            passing: The server goes with all that is on it, so nothing needs to be dropped.
        """
        if self._closed:
            return
        self._closed = True
        _open.discard(self)
        if not self._owner.is_current:
            self.session.start_over()
        elif self.session.connects:
            try:
                # An interrupt may have ended the connection; one try to get another, and no more after that.
                self.session.settle()
                if not passing:
                    self._leave(unused, leave)
            except Exception as error:
                # The sweep of the next run does what could not be done now.
                _log.info("left some of %s to a later sweep: %s", display_url(self.url), error)
        self.session.close()

    def _leave(self, unused: Sequence[str], leave: int) -> None:
        call = self.session.call
        if unused and self._templates is not None and (kept := self._templates.kept("utf8")):
            call(spares.add, kept, unused, leave)
        ours = [
            entry
            for entry in call(databases.own_databases)
            if entry.name.kind in (Kind.CLONE, Kind.FAILED) and entry.name.owner == self.run
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
                # One that something keeps in use is no reason to leave the others.
                _log.warning("%s was not dropped: %s", entry.text, driver_errors.driver_message(error))
        if self._templates is not None:
            self._templates.let_go()

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
            self._links,
            link_to=self._link_to,
            application=f"elefast {purpose} {self.run}",
            requirement=self._requirement,
            on_connect=on_connect,
            ended=self._ended,
        )

    def _show_life(self, connection: Connection) -> None:
        # Who sweeps holds the lock of a dead run for a moment, hence waiting and not trying.
        advisory_locks.acquire(connection, self.run)
        if self._templates is not None:
            self._templates.hold(connection)

    def _after_fork(self) -> None:
        """A child process has nothing of its parent's: not the connection, and not the run."""
        self.session.start_over()
        self._owner = OwnerProcess()
        self.run = new_owner()
        self._building = threading.RLock()
        self._leftovers = SparePool()

    def holders(self, error: BaseException) -> list[str]:
        """Who has the server's connections, where `error` says that there are no more and we have one to ask over."""
        if not driver_errors.no_connections_left(error) or not self.session.is_open:
            return []
        return self.session.call(server.connection_holders)

    def _in_use(self, template: str) -> ElefastError | None:
        """The error for a sealed template that somebody is connected to all the same; None for one that is not."""
        if template not in {entry.text for entry in self.session.call(databases.own_databases) if entry.sealed}:
            return None
        sessions = "".join(f"\n  {session}" for session in self.session.call(databases.client_sessions, template))
        return DatabaseNotReadyError(
            f"template {template} on {display_url(self.url)} cannot be copied while somebody is connected to it:"
            f"{sessions}\n"
            "End that session; if something was changed in it, drop the template as well: elefast template drop.",
            code="template-in-use",
        )

    def _explained(self, error: DBAPIError) -> ElefastError:
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

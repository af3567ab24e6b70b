"""Databases for tests over synchronous engines.

    server = DatabaseServer("postgresql+psycopg://postgres@localhost/postgres", schema=MetadataMigrator(Base.metadata))
    with server.create_database() as database, database.session() as session:
        ...

These classes are the public interface. `elefast.databases.backend` does the work.
"""

from __future__ import annotations

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

from sqlalchemy import URL, Connection, Engine, MetaData
from sqlalchemy.orm import Session, sessionmaker

from elefast.databases.backend import EngineBackend, ServerBackend
from elefast.databases.changes import Changes
from elefast.databases.snapshots import TakenSnapshot
from elefast.errors import LeakWarning
from elefast.postgres.drop_blockers import DropBlocker, Leftover
from elefast.postgres.session_settings import apply_settings
from elefast.postgres.urls import display_url, dsn
from elefast.templates import metadata as schema_of
from elefast.templates.fingerprint import Input

__all__ = ["CanBeTurnedIntoEngine", "Database", "DatabaseServer", "MetadataMigrator", "Migrator", "Snapshot"]

CanBeTurnedIntoEngine = Engine | URL | str

SessionmakerFactory = Callable[[Engine], "sessionmaker[Session]"]


class Migrator(Protocol):
    """Makes the schema in an empty database.

    A migrator may also have ``fingerprint() -> str | None``, which covers everything that the schema depends on.
    Then the next runs reuse the template as long as the fingerprint stays the same.
    """

    def migrate(self, connection: Connection) -> None:
        """Make the schema; elefast commits afterwards."""
        ...


class MetadataMigrator(Migrator):
    """Makes the tables of a ``MetaData``, and every schema that they, their enums and sequences are in.

    Args:
        metadata: The ``MetaData``, such as ``Base.metadata``.
    """

    def __init__(self, metadata: MetaData) -> None:
        self.metadata = metadata

    def migrate(self, connection: Connection) -> None:
        schema_of.create_all(connection, self.metadata)

    def fingerprint(self) -> Sequence[Input] | None:
        """The compiled DDL and the event listeners; None where a listener cannot be identified."""
        return schema_of.inputs(self.metadata)


def _nothing() -> None:
    """There is no connection that was opened in advance."""


class DatabaseInfo(ABC):
    """What the URL of a database says; the base of `Database` and `AsyncDatabase`."""

    @property
    @abstractmethod
    def _url(self) -> URL:
        """The URL of the database, with its password."""

    facts: Mapping[str, Any] = MappingProxyType({})
    """What the seed functions of its scenario returned, with those of `seed` and of the scenarios below it; read-only.
    Of two values with the same key, that of the later function counts."""

    session_options: Mapping[str, Any] = {}
    """Keywords that the session makers of `as_role` need."""

    def role_engine(self, role: str, settings: Mapping[str, object]) -> Engine:
        """An engine for `as_role`; for an async driver, the sync side of one. The caller disposes it."""
        self.close_preconnection()
        engine = self._new_role_engine(role)
        if settings:
            apply_settings(engine, settings)
        return engine

    @abstractmethod
    def _new_role_engine(self, role: str) -> Engine:
        """A new engine to the database whose sessions are those of `role`."""

    close_preconnection: Callable[[], None] = staticmethod(_nothing)
    """Closes the connection that elefast opened in advance, before a test connects otherwise or counts sessions."""

    @property
    def url(self) -> URL:
        """The URL of the database, with its password."""
        self.close_preconnection()
        return self._url

    @property
    def name(self) -> str:
        """The name of the database."""
        self.close_preconnection()
        return self._name

    @property
    def _name(self) -> str:
        name = self._url.database
        if not name:
            raise ValueError(f"the engine's URL names no database: {self._url!r}")
        return name

    @property
    def dsn(self) -> str:
        """A libpq connection URI with the password, for raw drivers and other programs."""
        return dsn(self.url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {display_url(self._url)}>"


class Database(DatabaseInfo, AbstractContextManager["Database"]):
    """A private database; dropped when the ``with`` block ends.

    Args:
        engine: An engine to the database.
        server: The server that made it.
        sessionmaker_factory: Makes the sessionmaker from the engine.

    Attributes:
        engine: The engine.
        server: The server that made it.
        sessionmaker: Makes sessions.
    """

    def __init__(
        self, engine: Engine, server: DatabaseServer, sessionmaker_factory: SessionmakerFactory = sessionmaker
    ) -> None:
        self.engine = engine
        self.server = server
        self.sessionmaker = sessionmaker_factory(engine)

    @property
    def _url(self) -> URL:
        return self.engine.url

    def session(self) -> Session:
        """A new session."""
        return self.sessionmaker()

    def snapshot(self) -> Snapshot:
        """Take a snapshot, for `restore`; it takes about as long as to create a database.

        PostgreSQL copies only databases without sessions. Connections of elefast's engines that are not in use are
        closed and opened again; other sessions are ended.

        Raises:
            RefusedError: A session has changes that are not committed; or tests share the database
                (``isolation = "transaction"``).

        Warns:
            LeakWarning: A session was ended.
        """
        # First, because a connection that is in use outlives the disposal of its pool.
        self.server.backend.check_committed(self._name)
        self.engine.dispose()
        taken, ended = self.server.backend.take_snapshot(self._name)
        warn_of_ended_sessions(self._name, "copied", ended)
        return Snapshot(self.server, taken, self.facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Make the database what it was when `snapshot` was taken. Its name, URL and engine stay valid.

        Args:
            snapshot: A snapshot of this database, or of another one of the same server.

        Raises:
            RefusedError: The snapshot was dropped, or is one of another server; or tests share the database
                (``isolation = "transaction"``).

        Warns:
            LeakWarning: A session that was open on the database was ended.
        """
        self.engine.dispose()
        ended = self.server.backend.restore(self._name, snapshot.taken)
        warn_of_ended_sessions(self._name, "restored", ended)

    @contextmanager
    def changes(self) -> Generator[Changes]:
        """Compare the database at the end of the ``with`` block with how it was at its beginning.

            with database.changes() as changes:
                place_order()
            assert changes["order"].inserted == 1

        Only what is committed counts. A table that was truncated, or written anew by ``ALTER TABLE``, counts as emptied
        and filled again.

        Raises:
            RefusedError: Tests share the database (``isolation = "transaction"``).
            ElefastError: A table is locked, or the database was restored or dropped in the block.
        """
        watch = self.server.backend.watch_changes(self._name)
        changes = Changes()
        try:
            yield changes
        except BaseException:
            watch.close()
            raise
        watch.finish(changes)

    @contextmanager
    def as_role(self, name: str, settings: Mapping[str, object] | None = None) -> Generator[Database]:
        """The same database, with sessions of another role.

            with db.as_role("app", settings={"app.tenant": "1"}) as tenant, tenant.session() as session:
                ...

        Args:
            name: A role that the configuration declares; empty for the server's user.
            settings: Settings of each session, such as ``{"app.tenant": "1"}``.

        Raises:
            ConfigurationError: The role is not declared.
            RefusedError: The server does not come from `elefast.from_config`, or the isolation does not allow it.
            DatabaseNotReadyError: The role cannot log in.
        """
        engine = self.role_engine(name, settings or {})
        database = Database(engine, self.server, self.server.sessionmaker_factory)
        database.facts = self.facts
        database.sessionmaker.configure(**self.session_options)
        database.session_options, database.role_engine = self.session_options, self.role_engine  # type: ignore[method-assign]
        try:
            yield database
        finally:
            engine.dispose()

    def _new_role_engine(self, role: str) -> Engine:
        return self.server.role_engine(self._name, role)

    def drop(self) -> None:
        """Close the engine's connections and drop the database; safe to repeat.

        Warns:
            LeakWarning: Other connections were still open; they were ended.
        """
        self.engine.dispose()
        warn_of_leaks(self._name, self.server.drop_and_report(self._name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.drop()
        except Exception as failed:
            if error is None:
                raise
            # The error of the test must stay visible.
            error.add_note(f"and its database could not be dropped: {failed}")


class SnapshotInfo:
    """What both kinds of snapshots have; the base of `Snapshot` and `AsyncSnapshot`.

    Args:
        backend: Has taken it.
        taken: The snapshot on the server.
        facts: Those of the database that it was taken of.
    """

    def __init__(self, backend: ServerBackend, taken: TakenSnapshot, facts: Mapping[str, Any]) -> None:
        self.taken = taken
        self._facts = facts
        self._snapshots = backend.snapshots
        # A snapshot that no code can restore any more takes up room for nothing.
        weakref.finalize(self, self._snapshots.drop_soon, taken).atexit = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.taken.database}>"


class Snapshot(SnapshotInfo):
    """The state of a database at one moment; made by `Database.snapshot`.

    It is dropped with its database, or soon after the last reference to it is gone.
    """

    def __init__(self, server: DatabaseServer, taken: TakenSnapshot, facts: Mapping[str, Any]) -> None:
        super().__init__(server.backend, taken, facts)
        self._server = server

    def create_database(self) -> Database:
        """Make another private database that equals the snapshot.

        Raises:
            RefusedError: The snapshot was dropped.
        """
        return self._server.view(self._snapshots.create(self.taken), self._facts)

    def drop(self) -> None:
        """Drop the snapshot before its database is dropped; safe to repeat."""
        self._snapshots.drop(self.taken)


class DatabaseServer:
    """A PostgreSQL server that makes private databases.

    Args:
        engine: An engine, a URL or a string. elefast connects to its database, but never changes it.
        schema: A migrator, which runs once to build the template of the databases; None for empty databases.
        debug: Whether to log the SQL of elefast's work as well.
        sessionmaker_factory: Makes the databases' sessionmakers from their engines.
        engine_options: ``create_engine`` keywords for the databases' engines. They override those of a given engine.
    """

    def __init__(
        self,
        engine: CanBeTurnedIntoEngine,
        schema: Migrator | None = None,
        debug: bool = False,
        *,
        sessionmaker_factory: SessionmakerFactory = sessionmaker,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._backend: ServerBackend = EngineBackend(engine, schema, engine_options=engine_options, echo=debug)
        self.sessionmaker_factory = sessionmaker_factory

    @classmethod
    def over(cls, backend: ServerBackend, sessionmaker_factory: SessionmakerFactory = sessionmaker) -> Self:
        """A server with another backend; for `elefast.stack`."""
        server = cls.__new__(cls)
        server._backend = backend
        server.sessionmaker_factory = sessionmaker_factory
        return server

    @property
    def backend(self) -> ServerBackend:
        """What makes, copies and drops its databases; for elefast itself."""
        return self._backend

    @property
    def url(self) -> URL:
        """The URL of the server, with its password."""
        return self._backend.url

    def ensure_is_ready(self, timeout: float = 30, interval: float = 0.5) -> Self:
        """Wait until the server answers. `create_database` does so as well.

        Args:
            timeout: Seconds to wait at most.
            interval: Seconds between attempts.

        Raises:
            DatabaseNotReadyError: It did not answer in time, or never will (wrong password, unknown role).
            MissingRightsError: The role may not create databases.
        """
        self._backend.ensure_ready(timeout, interval)
        return self

    def create_database(self, prefix: str = "elefast", encoding: str = "utf8") -> Database:
        """Make a private database with the schema in it.

        Args:
            prefix: The prefix of its name; any text.
            encoding: The encoding, by PostgreSQL's name for it.

        Raises:
            DatabaseNotReadyError: The server does not answer.
            MigrationError: The schema could not be made.
        """
        return self.view(self._backend.create(prefix, encoding), self._backend.facts(encoding))

    def view(self, name: str, facts: Mapping[str, Any]) -> Database:
        """A `Database` for database `name`, which this server has made."""
        database = Database(self._backend.engine(name), self, self.sessionmaker_factory)
        database.close_preconnection = partial(self._backend.close_preconnection, name)
        database.facts = facts
        return database

    def drop_database(self, name: str) -> None:
        """Drop a database that elefast made; does nothing where there is none.

        Raises:
            RefusedError: elefast did not make it, or another role did.
        """
        self._backend.drop(name)

    def role_engine(self, name: str, role: str) -> Engine:
        """An engine to database `name` for `Database.as_role`."""
        return self._backend.role_engine(name, role)

    def drop_and_report(self, name: str) -> list[Leftover]:
        """Like `drop_database`; the sessions and objects that had to be ended or cleared."""
        return self._backend.drop(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {display_url(self.url)}>"


def warn_of_ended_sessions(name: str, action: str, ended: Sequence[Leftover]) -> None:
    """Warn of sessions that were ended, and objects that were cleared, because database `name` was `action`."""
    for left in ended:
        if isinstance(left, DropBlocker):
            text = f"{left} in {name} was cleared, because the database was {action}"
        else:
            text = f"a connection to {name} was in use while the database was {action}, and was ended: {left}"
        warnings.warn(text, LeakWarning, stacklevel=3)


def warn_of_leaks(name: str, leaked: Sequence[Leftover]) -> None:
    """Warn of what a test left on database `name`."""
    for left in leaked:
        text = (
            f"{left} was left in {name} and was cleared"
            if isinstance(left, DropBlocker)
            else f"a connection to {name} was left open and was ended: {left}"
        )
        warnings.warn(text, LeakWarning, stacklevel=3)

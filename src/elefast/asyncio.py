"""Databases for tests over asynchronous engines; the twin of `elefast.sync`.

    server = AsyncDatabaseServer("postgresql+asyncpg://postgres@localhost/postgres", schema=...)
    async with await server.create_database() as database, database.session() as session:
        ...

Work on the server runs in threads, on connections that belong to no event loop of the user. So several loops may share
a server. The engine of a test belongs to the loop that uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from sqlalchemy import URL, Engine, MetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from elefast.databases.backend import EngineBackend, ServerBackend
from elefast.databases.changes import Changes
from elefast.databases.snapshots import TakenSnapshot
from elefast.postgres.drop_blockers import Leftover
from elefast.postgres.urls import display_url
from elefast.runtime.signals import close_unfinished
from elefast.sync import DatabaseInfo, SnapshotInfo, warn_of_ended_sessions, warn_of_leaks
from elefast.templates import metadata as schema_of
from elefast.templates.fingerprint import Input

__all__ = [
    "AsyncDatabase",
    "AsyncDatabaseServer",
    "AsyncMetadataMigrator",
    "AsyncMigrator",
    "AsyncSnapshot",
    "CanBeTurnedIntoAsyncEngine",
]

T = TypeVar("T")

CanBeTurnedIntoAsyncEngine = AsyncEngine | URL | str

AsyncSessionmakerFactory = Callable[[AsyncEngine], "async_sessionmaker[AsyncSession]"]


class AsyncMigrator(Protocol):
    """Makes the schema in an empty database; see `elefast.sync.Migrator`.

    It runs on a separate event loop.
    """

    async def migrate_async(self, connection: AsyncConnection) -> None:
        """Make the schema; elefast commits afterwards."""
        ...


class AsyncMetadataMigrator(AsyncMigrator):
    """Makes the tables of a ``MetaData``; see `elefast.sync.MetadataMigrator`.

    Args:
        metadata: The ``MetaData``, such as ``Base.metadata``.
    """

    def __init__(self, metadata: MetaData) -> None:
        self.metadata = metadata

    async def migrate_async(self, connection: AsyncConnection) -> None:
        await connection.run_sync(schema_of.create_all, self.metadata)

    def fingerprint(self) -> Sequence[Input] | None:
        """The compiled DDL and the event listeners; None where a listener cannot be identified."""
        return schema_of.inputs(self.metadata)


class AsyncDatabase(DatabaseInfo, AbstractAsyncContextManager["AsyncDatabase"]):
    """A private database; dropped when the ``async with`` block ends.

    Args:
        engine: An engine to the database.
        server: The server that made it.
        sessionmaker_factory: Makes the sessionmaker from the engine. By default objects can be read after a commit
            (``expire_on_commit=False``), because an attribute access cannot await a reload.

    Attributes:
        engine: The engine.
        server: The server that made it.
        sessionmaker: Makes sessions.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        server: AsyncDatabaseServer,
        sessionmaker_factory: AsyncSessionmakerFactory = async_sessionmaker,
    ) -> None:
        self.engine = engine
        self.server = server
        self.sessionmaker = (
            async_sessionmaker(engine, expire_on_commit=False)
            if sessionmaker_factory is async_sessionmaker
            else sessionmaker_factory(engine)
        )

    @property
    def _url(self) -> URL:
        return self.engine.url

    def session(self) -> AsyncSession:
        """A new session."""
        return self.sessionmaker()

    async def snapshot(self) -> AsyncSnapshot:
        """Take a snapshot, for `restore`; see `elefast.sync.Database.snapshot`."""
        backend = self.server.backend
        await _in_thread(partial(backend.check_committed, self._name))
        await self.engine.dispose()
        taken, ended = await _in_thread(
            partial(backend.take_snapshot, self._name), undo=lambda result: backend.snapshots.drop(result[0])
        )
        warn_of_ended_sessions(self._name, "copied", ended)
        return AsyncSnapshot(self.server, taken, self.facts)

    async def restore(self, snapshot: AsyncSnapshot) -> None:
        """Make the database what it was when `snapshot` was taken; see `elefast.sync.Database.restore`."""
        await self.engine.dispose()
        ended = await _in_thread(partial(self.server.backend.restore, self._name, snapshot.taken))
        warn_of_ended_sessions(self._name, "restored", ended)

    @asynccontextmanager
    async def changes(self) -> AsyncGenerator[Changes]:
        """Compare the database with how it was at the beginning of the block; see `elefast.sync.Database.changes`."""
        backend = self.server.backend
        watch = await _in_thread(partial(backend.watch_changes, self._name), undo=lambda watch: watch.close())
        changes = Changes()
        try:
            yield changes
        except BaseException:
            watch.close()
            raise
        await _in_thread(partial(watch.finish, changes))

    @asynccontextmanager
    async def as_role(self, name: str, settings: Mapping[str, object] | None = None) -> AsyncGenerator[AsyncDatabase]:
        """The same database, with sessions of another role; see `elefast.sync.Database.as_role`."""
        engine = AsyncEngine(await asyncio.to_thread(self.role_engine, name, settings or {}))
        database = AsyncDatabase(engine, self.server, self.server.sessionmaker_factory)
        database.facts = self.facts
        database.sessionmaker.configure(**self.session_options)
        database.session_options, database.role_engine = self.session_options, self.role_engine  # type: ignore[method-assign]
        try:
            yield database
        finally:
            await engine.dispose()

    def _new_role_engine(self, role: str) -> Engine:
        return self.server.role_engine(self._name, role)

    async def drop(self) -> None:
        """Close the engine's connections and drop the database; safe to repeat.

        Warns:
            LeakWarning: Other connections were still open; they were ended.
        """
        await self.engine.dispose()
        warn_of_leaks(self._name, await self.server.drop_and_report(self._name))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_unfinished(error)
        try:
            await self.drop()
        except Exception as failed:
            if error is None:
                raise
            # The error of the test must stay visible.
            error.add_note(f"and its database could not be dropped: {failed}")


class AsyncSnapshot(SnapshotInfo):
    """The state of a database at one moment; made by `AsyncDatabase.snapshot`. See `elefast.sync.Snapshot`."""

    def __init__(self, server: AsyncDatabaseServer, taken: TakenSnapshot, facts: Mapping[str, Any]) -> None:
        super().__init__(server.backend, taken, facts)
        self._server = server

    async def create_database(self) -> AsyncDatabase:
        """Make another private database that equals the snapshot; see `elefast.sync.Snapshot.create_database`."""
        name = await _in_thread(partial(self._snapshots.create, self.taken), undo=self._server.backend.drop)
        return self._server.view(name, self._facts)

    async def drop(self) -> None:
        """Drop the snapshot before its database is dropped; safe to repeat."""
        await _in_thread(partial(self._snapshots.drop, self.taken))


class AsyncDatabaseServer:
    """A PostgreSQL server that makes private databases; see `elefast.sync.DatabaseServer`.

    Args:
        engine: An async engine, a URL or a string. elefast connects to its database, but never changes it.
        schema: A migrator, async or not, which runs once to build the template; None for empty databases.
        debug: Whether to log the SQL of elefast's work as well.
        sessionmaker_factory: Makes the databases' sessionmakers from their engines.
        engine_options: ``create_async_engine`` keywords for the databases' engines, which are on ``NullPool``
            unless ``pool_size``, ``max_overflow`` or ``poolclass`` are among them.
    """

    def __init__(
        self,
        engine: CanBeTurnedIntoAsyncEngine,
        schema: AsyncMigrator | None = None,
        *,
        debug: bool = False,
        sessionmaker_factory: AsyncSessionmakerFactory = async_sessionmaker,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._backend: ServerBackend = EngineBackend(
            engine, schema, engine_options=engine_options, echo=debug, is_async=True
        )
        self.sessionmaker_factory = sessionmaker_factory

    @classmethod
    def over(cls, backend: ServerBackend, sessionmaker_factory: AsyncSessionmakerFactory = async_sessionmaker) -> Self:
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

    async def ensure_is_ready(self, timeout: float = 30, interval: float = 0.5) -> Self:
        """Wait until the server answers; see `elefast.sync.DatabaseServer.ensure_is_ready`."""
        await _in_thread(partial(self._backend.ensure_ready, timeout, interval))
        return self

    async def create_database(self, prefix: str = "elefast", encoding: str = "utf8") -> AsyncDatabase:
        """Make a private database with the schema in it; see `elefast.sync.DatabaseServer.create_database`."""
        name = await _in_thread(partial(self._backend.create, prefix, encoding), undo=self._backend.drop)
        return self.view(name, self._backend.facts(encoding))

    def view(self, name: str, facts: Mapping[str, Any]) -> AsyncDatabase:
        """An `AsyncDatabase` for database `name`, which this server has made."""
        database = AsyncDatabase(AsyncEngine(self._backend.engine(name)), self, self.sessionmaker_factory)
        database.facts = facts
        return database

    async def drop_database(self, name: str) -> None:
        """Drop a database that elefast made; see `elefast.sync.DatabaseServer.drop_database`."""
        await self.drop_and_report(name)

    def role_engine(self, name: str, role: str) -> Engine:
        """The sync side of an engine to database `name` for `AsyncDatabase.as_role`."""
        return self._backend.role_engine(name, role)

    async def drop_and_report(self, name: str) -> list[Leftover]:
        """Like `drop_database`; the sessions and objects that had to be ended or cleared."""
        return await _in_thread(partial(self._backend.drop, name))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {display_url(self.url)}>"


async def _in_thread(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Run `work` in a thread. If the task is cancelled meanwhile, call `undo` with the result once it is there."""
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:

        def clean_up(done: asyncio.Future[T]) -> None:
            if undo is not None and not done.cancelled() and done.exception() is None:
                loop.run_in_executor(None, undo, done.result())

        running.add_done_callback(clean_up)
        raise

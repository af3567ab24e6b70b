"""A program that uses every public name, for the type checkers; it is never run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import assert_type

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

import elefast
from elefast import (
    AsyncDatabase,
    AsyncDatabaseServer,
    AsyncMetadataMigrator,
    AsyncMigrator,
    CanBeTurnedIntoAsyncEngine,
    CanBeTurnedIntoEngine,
    Database,
    DatabaseServer,
    ElefastError,
    LeakWarning,
    MetadataMigrator,
    Migrator,
    Settings,
    Stack,
    from_config,
    load_settings,
)
from elefast.errors import DatabaseNotReadyError
from elefast.extras.alembic import AlembicMigrator

metadata = MetaData()


class MyMigrator(Migrator):
    def migrate(self, connection: Connection) -> None: ...


class MyAsyncMigrator(AsyncMigrator):
    async def migrate_async(self, connection: AsyncConnection) -> None: ...


class DuckMigrator:
    def migrate(self, connection: Connection) -> None: ...

    def fingerprint(self) -> str | None:
        return None


def sync_half(target: CanBeTurnedIntoEngine) -> None:
    DatabaseServer("postgresql://localhost/x")
    DatabaseServer(create_engine("postgresql://localhost/x"), schema=MyMigrator(), debug=True)
    DatabaseServer(target, DuckMigrator())
    DatabaseServer(target, schema=AlembicMigrator("alembic.ini"))
    server = DatabaseServer(target, schema=MetadataMigrator(metadata), engine_options={"echo": True})
    assert_type(server.ensure_is_ready(timeout=3, interval=0.1), DatabaseServer)
    assert_type(server.url, URL)
    with server.create_database(prefix="x", encoding="utf8") as database:
        assert_type(database, Database)
        assert_type(database.engine, Engine)
        assert_type(database.server, DatabaseServer)
        assert_type(database.sessionmaker, sessionmaker[Session])
        assert_type(database.session(), Session)
        assert_type(database.name, str)
        assert_type(database.dsn, str)
        assert_type(database.url, URL)
        database.drop()
    server.drop_database("x")
    Database(create_engine("postgresql://localhost/x"), server, sessionmaker_factory=sessionmaker)


async def async_half(target: CanBeTurnedIntoAsyncEngine) -> None:
    AsyncDatabaseServer("postgresql+asyncpg://localhost/x", schema=MyAsyncMigrator())
    AsyncDatabaseServer(create_async_engine("postgresql+asyncpg://localhost/x"), AlembicMigrator("alembic.ini"))
    server = AsyncDatabaseServer(target, schema=AsyncMetadataMigrator(metadata))
    assert_type(await server.ensure_is_ready(), AsyncDatabaseServer)
    async with await server.create_database() as database:
        assert_type(database, AsyncDatabase)
        assert_type(database.engine, AsyncEngine)
        assert_type(database.server, AsyncDatabaseServer)
        assert_type(database.sessionmaker, async_sessionmaker[AsyncSession])
        assert_type(database.session(), AsyncSession)
        assert_type(database.name, str)
        assert_type(database.dsn, str)
        assert_type(database.url, URL)
        await database.drop()
    await server.drop_database("x")
    AsyncDatabase(create_async_engine("postgresql+asyncpg://localhost/x"), server)


async def configured() -> None:
    with from_config("pyproject.toml", profile="ci", env={}, provider="local") as stack:
        assert_type(stack, Stack)
        assert_type(stack.settings, Settings)
        assert_type(stack.settings.pool.size, int)
        assert_type(stack.url, URL)
        assert_type(stack.server, DatabaseServer)
        assert_type(stack.async_server, AsyncDatabaseServer)
        DatabaseServer(stack.url, schema=stack.migrator)
        AsyncDatabaseServer(stack.url, schema=stack.migrator)
        print(stack.report(), stack.provenance["provider"])
        stack.close()
    async with from_config() as stack:
        pass
    from_config(
        engine={"url": "postgresql://localhost/x", "pool_size": 1}, pool__size=8, seed=["seed.sql", Path("more.sql")]
    )
    from_config(provider="lokal")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    from_config(pool={"sice": 8})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    from_config(docker__prot=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    loaded = load_settings(profile="ci", keep="failed", local={"bin_dir": Path("/usr/bin")})
    print(loaded.settings, loaded.provenance, loaded.files)
    with suppress(DatabaseNotReadyError, ElefastError, LeakWarning):
        print(elefast.__version__)

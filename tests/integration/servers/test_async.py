"""Databases over asynchronous engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import URL, Connection, MetaData, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from elefast import AsyncDatabaseServer, AsyncMetadataMigrator, LeakWarning, MetadataMigrator
from elefast.errors import DatabaseNotReadyError, RefusedError

Names = Callable[[], list[str]]


def test_a_database_has_the_schema_and_is_gone_afterwards(async_url: URL, metadata: MetaData, ours: Names) -> None:
    """The whole life of a database, with each driver."""

    async def main() -> str:
        server = await AsyncDatabaseServer(async_url, schema=AsyncMetadataMigrator(metadata)).ensure_is_ready()
        async with await server.create_database() as database:
            async with database.session() as session:
                await session.execute(text("insert into app.note (body) values ('x')"))
                await session.commit()
            async with database.engine.connect() as connection:
                assert await connection.scalar(text("select body from app.note")) == "x"
            assert database.name in ours()
        return database.name

    assert asyncio.run(main()) not in ours()


def test_engines_keep_no_connections_and_sessions_keep_attributes(async_url: URL) -> None:
    """A pooled connection would belong to one loop; a reload on access cannot be awaited."""

    async def main() -> None:
        async with await AsyncDatabaseServer(async_url).create_database() as database:
            assert isinstance(database.engine.pool, NullPool)
            assert not database.sessionmaker.kw["expire_on_commit"]

    asyncio.run(main())


def test_a_pool_can_be_asked_for(async_url: URL) -> None:
    """Whoever sets the pool's size wants a pool."""

    async def main() -> None:
        server = AsyncDatabaseServer(async_url, engine_options={"pool_size": 2})
        async with await server.create_database() as database:
            assert database.engine.pool.size() == 2  # type: ignore[attr-defined]

    asyncio.run(main())


@pytest.mark.parametrize("options", [{}, {"poolclass": NullPool}, {"pool_size": 1, "max_overflow": 0}], ids=str)
def test_a_users_engine_works_from_several_loops(
    async_url: URL, metadata: MetaData, options: dict[str, object]
) -> None:
    """elefast's own work never touches the user's pool, nor a loop of the user's."""
    engine = create_async_engine(async_url, **options)
    server = AsyncDatabaseServer(engine, schema=AsyncMetadataMigrator(metadata))

    async def main() -> None:
        async with await server.create_database() as database, database.session() as session:
            assert await session.scalar(text("select count(*) from app.note")) == 0

    for _ in range(2):
        asyncio.run(main())


def test_the_template_is_built_once_for_all_tasks(async_url: URL, ours: Names) -> None:
    """`gather` on a cold server migrates once."""
    runs: list[int] = []

    class Migrator:
        async def migrate_async(self, connection: AsyncConnection) -> None:
            runs.append(1)
            await connection.execute(text("create table note ()"))

    async def main() -> None:
        server = AsyncDatabaseServer(async_url, schema=Migrator())
        made = await asyncio.gather(*(server.create_database() for _ in range(5)))
        assert len({database.name for database in made}) == 5
        await asyncio.gather(*(database.drop() for database in made))

    asyncio.run(main())
    assert len(runs) == 1


def test_a_sync_migrator_will_do(async_url: URL, metadata: MetaData) -> None:
    """One migrator serves both kinds of server."""

    class Migrator:
        def migrate(self, connection: Connection) -> None:
            MetadataMigrator(metadata).migrate(connection)

    async def main() -> None:
        server = AsyncDatabaseServer(async_url, schema=Migrator())  # type: ignore[arg-type]
        async with await server.create_database() as database, database.session() as session:
            assert await session.scalar(text("select count(*) from app.note")) == 0

    asyncio.run(main())


def test_a_cancelled_create_leaves_nothing(async_url: URL, ours: Names) -> None:
    """What a thread finished after its task was cancelled is dropped."""

    async def main() -> None:
        server = await AsyncDatabaseServer(async_url).ensure_is_ready()
        task = asyncio.create_task(server.create_database("cancelled"))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # A later database is made after the cancelled one, and by the same connection.
        async with await server.create_database():
            pass
        await asyncio.sleep(0.2)
        assert not [name for name in ours() if name.startswith("cancelled")]

    asyncio.run(main())


def test_a_connection_that_was_left_open_is_named(async_url: URL) -> None:
    """The warning says which, and the database goes all the same."""

    async def main() -> None:
        database = await AsyncDatabaseServer(async_url).create_database()
        other = create_async_engine(database.url, poolclass=NullPool)
        connection = await other.connect()
        await connection.execute(text("select 'last words'"))
        with pytest.warns(LeakWarning, match="last words"):
            await database.drop()
        await connection.invalidate()
        await connection.close()

    asyncio.run(main())


def test_errors_are_the_same_as_those_of_the_twin(async_url: URL) -> None:
    """Foreign names are refused, absent servers are named."""

    async def main() -> None:
        with pytest.raises(RefusedError):
            await AsyncDatabaseServer(async_url).drop_database("postgres")
        with pytest.raises(DatabaseNotReadyError, match="did not answer within"):
            await AsyncDatabaseServer(async_url.set(port=1)).ensure_is_ready(timeout=0.2, interval=0.1)

    asyncio.run(main())

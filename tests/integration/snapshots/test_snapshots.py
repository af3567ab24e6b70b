"""Snapshots: what a restore brings back, which sessions it ends, and what becomes of snapshots."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, Engine, MetaData, create_engine, text

import elefast
from elefast.errors import LeakWarning, RefusedError
from elefast.postgres.names import Kind, Name


def _execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _items(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(text("select body from item order by id")))


def _snapshots(server_url: str) -> list[str]:
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        names = [name for (name,) in connection.execute("select datname from pg_database")]
    return [name for name in names if (parsed := Name.parse(name)) is not None and parsed.kind is Kind.SNAPSHOT]


def _table_server(url: URL) -> elefast.DatabaseServer:
    class Schema(elefast.Migrator):
        def migrate(self, connection: object) -> None:
            connection.execute(text("create table item (id serial primary key, body text)"))  # type: ignore[attr-defined]

    return elefast.DatabaseServer(url, schema=Schema())


@pytest.mark.parametrize("kind", ["stack", "own server"])
def test_a_restore_brings_everything_back(stack: elefast.Stack, url: URL, kind: str) -> None:
    """Rows, sequences, tables, settings, comment and rights; name, URL and engine stay the same."""
    server = stack.server if kind == "stack" else _table_server(url)
    with server.create_database() as database:
        engine, name, address = database.engine, database.name, database.url
        _execute(
            engine,
            "insert into item (body) values ('first')",
            f"alter database \"{name}\" set elefast.test = 'before'",
            f"comment on database \"{name}\" is 'mine'",
        )
        snapshot = database.snapshot()
        for _ in range(3):
            _execute(
                engine,
                "insert into item (body) values ('second')",
                "delete from item where body = 'first'",
                "create table another ()",
                "select lo_create(4711)",
                f"alter database \"{name}\" set elefast.test = 'after'",
                f'revoke connect on database "{name}" from public',
            )
            database.restore(snapshot)
            assert database.engine is engine
            assert (database.name, database.url) == (name, address)
            assert _items(engine) == ["first"]
            with engine.connect() as connection:
                assert connection.scalar(text("select last_value from item_id_seq")) == 1
                assert connection.scalar(text("select to_regclass('another')")) is None
                assert connection.scalar(text("select count(*) from pg_largeobject_metadata")) == 0
                assert connection.scalar(text("show elefast.test")) == "before"
                assert (
                    connection.scalar(text("select datacl from pg_database where datname = current_database()")) is None
                )
                note = (
                    "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()"
                )
                assert connection.scalar(text(note)) == "mine"


def test_later_restores_are_resets(stack: elefast.Stack) -> None:
    """From the third restore on, tables that are empty in the snapshot are emptied; others need a copy."""
    with stack.server.create_database() as database:
        snapshot = database.snapshot()
        for number in range(6):
            _execute(database.engine, "insert into item (body) values ('x')")
            database.restore(snapshot)
            assert _items(database.engine) == []
            assert stack.service.snapshots.resets == max(0, number - 1)
        _execute(database.engine, "update country set name = 'changed'")
        database.restore(snapshot)
        assert stack.service.snapshots.resets == 4
        with database.engine.connect() as connection:
            assert connection.scalar(text("select count(*) from country where name = 'changed'")) == 0


def test_the_pool_never_resets_a_restored_database(stack: elefast.Stack) -> None:
    """After its test such a database is dropped: the state that it can be reset to is the snapshot's."""
    for _ in range(8):
        checkout = stack.checkout("test")
        database = checkout.sync
        assert _items(database.engine) == []
        _execute(database.engine, "insert into item (body) values ('of the snapshot')")
        snapshot = database.snapshot()
        for _ in range(4):
            database.restore(snapshot)
        checkout.release()


def test_a_test_with_a_snapshot_alone_can_still_be_reset(stack: elefast.Stack) -> None:
    """A copy changes nothing in the database."""
    for _ in range(8):
        checkout = stack.checkout("test")
        assert _items(checkout.sync.engine) == []
        _execute(checkout.sync.engine, "insert into item (body) values ('x')")
        checkout.sync.snapshot()
        checkout.release()


def test_several_snapshots_are_independent(stack: elefast.Stack) -> None:
    """A restore to an earlier one does not drop a later one."""
    with stack.server.create_database() as database:
        empty = database.snapshot()
        _execute(database.engine, "insert into item (body) values ('one')")
        one = database.snapshot()
        _execute(database.engine, "insert into item (body) values ('two')")
        for snapshot, expected in ((empty, []), (one, ["one"]), (empty, []), (one, ["one"]), (one, ["one"])):
            database.restore(snapshot)
            assert _items(database.engine) == expected


@pytest.mark.parametrize("kind", ["stack", "own server"])
def test_a_snapshot_makes_databases(stack: elefast.Stack, url: URL, kind: str) -> None:
    """They are private, and can be restored as well."""
    server = stack.server if kind == "stack" else _table_server(url)
    with server.create_database() as database:
        _execute(database.engine, "insert into item (body) values ('x')")
        snapshot = database.snapshot()
        with snapshot.create_database() as first, snapshot.create_database() as second:
            _execute(first.engine, "delete from item")
            assert (_items(first.engine), _items(second.engine)) == ([], ["x"])
            first.restore(snapshot)
            assert _items(first.engine) == ["x"]
        assert _items(database.engine) == ["x"]


def test_async(stack: elefast.Stack, url: URL) -> None:
    """The async twins, with a pool and without one."""

    async def use(server: elefast.AsyncDatabaseServer) -> None:
        async with await server.create_database() as database:
            snapshot = await database.snapshot()
            for _ in range(3):
                async with database.engine.begin() as connection:
                    await connection.execute(text("create table t ()"))
                await database.restore(snapshot)
                async with database.engine.connect() as connection:
                    assert await connection.scalar(text("select to_regclass('t')")) is None
            async with await snapshot.create_database() as another:
                assert another.name != database.name
            await snapshot.drop()
            with pytest.raises(RefusedError, match="does not exist any more") as caught:
                await database.restore(snapshot)
            assert caught.value.code == "snapshot-gone"

    asyncio.run(use(stack.async_server))
    for driver in ("asyncpg", "psycopg"):
        address = url.set(drivername=f"postgresql+{driver}")
        asyncio.run(use(elefast.AsyncDatabaseServer(address)))
        asyncio.run(use(elefast.AsyncDatabaseServer(address, engine_options={"pool_size": 2})))


def test_both_views_of_a_test_connect_again(stack: elefast.Stack) -> None:
    """A pooled connection of the other view leads to the restored database as well."""
    checkout = stack.checkout("test")
    database = checkout.sync

    async def ask() -> object:
        async with checkout.async_engine.connect() as connection:
            return await connection.scalar(text("select count(*) from item"))

    assert asyncio.run(ask()) == 0
    assert _items(database.engine) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snapshot = database.snapshot()
        _execute(database.engine, "insert into item (body) values ('x')")
        database.restore(snapshot)
    assert asyncio.run(ask()) == 0
    checkout.release()


def test_other_sessions_are_ended_and_reported(stack: elefast.Stack) -> None:
    """A session that is in use ends with a warning; the next one of the same engine sees the restored database."""
    with stack.server.create_database() as database:
        snapshot = database.snapshot()
        with psycopg.connect(database.dsn, application_name="the culprit") as stranger:
            stranger.execute("select 1")
            with pytest.warns(LeakWarning, match=r"was in use while the database was restored.*the culprit"):
                database.restore(snapshot)
            with pytest.raises(psycopg.OperationalError):
                stranger.execute("select 1")
        assert _items(database.engine) == []


def test_uncommitted_changes_are_not_lost(stack: elefast.Stack) -> None:
    """A snapshot would not have them, so none is taken, and the session goes on."""
    with stack.server.create_database() as database:
        with database.session() as session:
            session.execute(text("insert into item (body) values ('x')"))
            with pytest.raises(RefusedError, match=r"not committed.*\n.*insert into item") as caught:
                database.snapshot()
            assert caught.value.code == "snapshot-uncommitted"
            session.commit()
        snapshot = database.snapshot()
        _execute(database.engine, "delete from item")
        database.restore(snapshot)
        assert _items(database.engine) == ["x"]


def test_a_prepared_transaction(stack: elefast.Stack) -> None:
    """It has changes that are not committed, so no snapshot is taken; a restore rolls it back."""
    with stack.server.create_database() as database:
        snapshot = database.snapshot()
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            connection.execute("begin")
            connection.execute("insert into item (body) values ('x')")
            connection.execute("prepare transaction 'of-snapshots'")
        with pytest.raises(RefusedError, match="the prepared transaction 'of-snapshots'"):
            database.snapshot()
        with pytest.warns(LeakWarning, match='prepared transaction "of-snapshots"'):
            database.restore(snapshot)
        assert _items(database.engine) == []


def test_snapshots_go_with_their_database(stack: elefast.Stack, server_url: str) -> None:
    """With the drop of the database, with `drop()`, and after the last reference."""
    before = set(_snapshots(server_url))

    def left() -> int:
        return len(set(_snapshots(server_url)) - before)

    with stack.server.create_database() as database:
        kept = database.snapshot()
        assert left() == 1
        dropped = database.snapshot()
        dropped.drop()
        dropped.drop()
        assert left() == 1
        database.snapshot()
        gc.collect()
        database.restore(kept)
        assert left() == 1
    assert left() == 0  # no thread of the pool has anything to do with it after the first database
    with stack.server.create_database() as another:
        with pytest.raises(RefusedError, match="dropped with its database"):
            another.restore(kept)
        with pytest.raises(RefusedError, match="dropped with its database"):
            kept.create_database()


def test_a_killed_run_leaves_snapshots_to_the_sweep(url: URL, server_url: str, tmp_path: Path) -> None:
    """They bear the mark of their run, so the next run drops them."""
    program = f"""
import os, signal
import elefast
database = elefast.DatabaseServer({url.render_as_string(hide_password=False)!r}).create_database()
snapshot = database.snapshot()
print(snapshot.taken.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    name = done.stdout.strip()
    assert Name.parse(name), done.stderr
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        query = "select 1 from pg_database where datname = %s"
        assert connection.execute(query, [name]).fetchall()
        elefast.DatabaseServer(url).create_database().drop()
        assert not connection.execute(query, [name]).fetchall()


def test_a_foreign_database_is_neither_copied_nor_replaced(url: URL, server_url: str) -> None:
    """A `Database` that a user made for another database."""
    server = elefast.DatabaseServer(url)
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create database precious_of_snapshots")
        try:
            engine = create_engine(url.set(database="precious_of_snapshots"))
            foreign = elefast.Database(engine, server)
            with server.create_database() as database:
                snapshot = database.snapshot()
                for action in (foreign.snapshot, lambda: foreign.restore(snapshot)):
                    with pytest.raises(RefusedError, match="precious_of_snapshots") as caught:
                        action()
                    assert caught.value.code == "foreign-database"
            engine.dispose()
            assert connection.execute("select 1 from pg_database where datname = 'precious_of_snapshots'").fetchall()
        finally:
            connection.execute("drop database precious_of_snapshots")


def test_a_shared_database_has_no_snapshot(stack: elefast.Stack) -> None:
    """With ``isolation = "transaction"`` the error names the way out."""
    checkout = stack.checkout_transaction("test")
    with stack.server.create_database() as database:
        snapshot = database.snapshot()
        with pytest.raises(RefusedError, match='isolation="database"') as caught:
            checkout.sync.restore(snapshot)
        assert caught.value.code == "shared-database"
    with pytest.raises(RefusedError, match='isolation="database"') as caught:
        checkout.sync.snapshot()
    assert caught.value.code == "shared-database"
    checkout.release()


def test_metadata_servers(url: URL) -> None:
    """A server of the user's own engine object."""
    engine = create_engine(url)
    with elefast.DatabaseServer(engine, schema=elefast.MetadataMigrator(MetaData())).create_database() as database:
        snapshot = database.snapshot()
        _execute(database.engine, "create table t ()")
        database.restore(snapshot)
        with database.engine.connect() as connection:
            assert connection.scalar(text("select to_regclass('t')")) is None
    engine.dispose()

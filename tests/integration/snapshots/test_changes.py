"""`db.changes()`: the rows that a block of a test inserted, updated and deleted."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from sqlalchemy import URL, Engine, create_engine, text

import elefast
from elefast.errors import ElefastError, RefusedError


def _execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _counts(change: object) -> tuple[int, int, int]:
    return change.inserted, change.updated, change.deleted  # type: ignore[attr-defined]


def test_rows_are_counted_by_their_key(stack: elefast.Stack) -> None:
    """An update of a new row is an insert; a row that is written as it was did not change."""
    with stack.server.create_database() as database:
        _execute(database.engine, "insert into item (body) values ('old'), ('same'), ('gone')")
        with database.changes() as changes:
            _execute(
                database.engine,
                "insert into item (body) values ('new'), ('newer')",
                "update item set body = 'changed' where body in ('old', 'newer')",
                "update item set body = body where body = 'same'",
                "delete from item where body = 'gone'",
                "insert into item (body) values ('for a moment')",
                "delete from item where body = 'for a moment'",
                "select * from country for update",
            )
        assert _counts(changes["item"]) == (2, 1, 1)
        assert _counts(changes["country"]) == (0, 0, 0)
        assert list(changes) == ["item"]
        assert changes["item"].updated_rows == [({"id": 1, "body": "old"}, {"id": 1, "body": "changed"})]
        assert str(changes).splitlines() == [
            "item: 2 inserted, 1 updated, 1 deleted",
            "  + id=4, body='new'",
            "  + id=5, body='changed'",
            "  ~ id=1: body 'old' -> 'changed'",
            "  - id=3, body='gone'",
        ]
        with database.changes() as changes:
            pass
        assert not changes


def test_definitions_may_change(stack: elefast.Stack) -> None:
    """Tables that are new, dropped, renamed, truncated, extended, partitioned, or without a key."""
    with stack.server.create_database() as database:
        _execute(
            database.engine,
            "insert into item (body) values ('x'), ('y')",
            "create table dropped as select 1 as n from generate_series(1, 3)",
            "create table renamed (id int primary key)",
            "insert into renamed values (1), (2)",
            "create table extended (id int primary key)",
            "insert into extended values (1)",
            "create schema app",
            "create table app.keyless (n int)",
            "insert into app.keyless values (1), (1), (2)",
            "create table parted (id int primary key) partition by range (id)",
            "create table low partition of parted for values from (0) to (10)",
            "create table high partition of parted for values from (10) to (20)",
            "insert into parted values (1), (11)",
        )
        with database.changes() as changes:
            _execute(
                database.engine,
                "truncate item",
                "insert into item (body) values ('z')",
                "drop table dropped",
                "alter table renamed rename to other",
                "delete from other where id = 1",
                "alter table extended add column note text default 'x'",
                "insert into extended values (2)",
                "insert into app.keyless values (1)",
                "delete from app.keyless where n = 2",
                "update parted set id = 12 where id = 1",
                "create table fresh (id int)",
                "insert into fresh values (1)",
                "create temporary table passing as select 1",
            )
        found = {table: _counts(change) for table, change in changes.items()}
        assert found == {
            "item": (1, 0, 2),
            "dropped": (0, 0, 3),
            "other": (0, 0, 1),
            "extended": (1, 0, 0),
            "app.keyless": (1, 0, 1),
            "parted": (1, 0, 1),
            "fresh": (1, 0, 0),
        }
        assert changes["keyless"].inserted == 1
        with pytest.raises(KeyError, match=r"no table 'itme'; did you mean item\?"):
            changes["itme"]


def test_many_rows(stack: elefast.Stack) -> None:
    """The counts are exact, the text is a screen."""
    with stack.server.create_database() as database:
        with database.changes() as changes:
            tables = [f"create table t{number} as select 1 as n" for number in range(30)]
            _execute(database.engine, "insert into item (body) select 'x' from generate_series(1, 20000)", *tables)
        assert changes["item"].inserted == 20000
        assert len(changes) == 31
        assert len(changes.lines()) <= 25
        assert all(len(line) <= 118 for line in changes.lines())


def test_secrets_are_hidden(stack: elefast.Stack) -> None:
    """By the name of the column, and within URLs and JSON."""
    with stack.server.create_database() as database:
        with database.changes() as changes:
            _execute(
                database.engine,
                "create table account (id int, password text, api_token text, config jsonb, url text)",
                "insert into account values (1, 'hunter2', 'hunter2', '{\"secret\": \"hunter2\"}', "
                "'postgresql://me:hunter2@host/x')",
            )
        assert "hunter2" not in str(changes)
        assert "password='***'" in str(changes)
        assert changes["account"].inserted_rows[0]["password"] == "hunter2"


def test_what_is_not_committed_does_not_count(stack: elefast.Stack) -> None:
    """A session that goes on is not disturbed."""
    with stack.server.create_database() as database, database.session() as session:
        session.execute(text("insert into item (body) values ('early')"))
        with database.changes() as changes:
            session.execute(text("insert into item (body) values ('late')"))
        assert not changes
        with database.changes() as changes:
            session.commit()
        assert changes["item"].inserted == 2


def test_errors(stack: elefast.Stack) -> None:
    """Each has a code, and an error of the block itself comes first."""
    with stack.server.create_database() as database:
        with database.changes() as changes, pytest.raises(ElefastError, match="at the end of the block") as caught:
            len(changes)
        assert caught.value.code == "changes-too-early"
        snapshot = database.snapshot()
        with (
            pytest.raises(ElefastError, match="cannot be compared") as caught,
            database.changes(),
            pytest.warns(elefast.LeakWarning),
        ):
            database.restore(snapshot)
        assert caught.value.code == "changes-unreadable"
        with pytest.raises(ZeroDivisionError), database.changes():
            raise ZeroDivisionError
        locked = psycopg.connect(database.dsn)
        locked.execute("alter table item add column more text")
        with pytest.raises(ElefastError, match="lock timeout") as caught, database.changes():
            pass
        assert caught.value.code == "changes-unreadable"
        locked.close()
    checkout = stack.checkout_transaction("test")
    with pytest.raises(RefusedError, match='isolation="database"') as caught, checkout.sync.changes():
        pass
    assert caught.value.code == "shared-database"
    checkout.release()


def test_no_session_is_left(stack: elefast.Stack) -> None:
    """A database whose changes were read can still be reset after its test."""
    for _ in range(6):
        checkout = stack.checkout("test")
        with checkout.sync.changes() as changes:
            _execute(checkout.sync.engine, "insert into item (body) values ('x')")
        assert changes["item"].inserted == 1
        checkout.release()
    stack.service.pool.wait_until(lambda state: state.is_quiet, 10)
    assert not stack.service.take_leaks()
    assert len(stack.service.report.restore) > 0


def test_a_slow_comparison_is_not_tried_again(stack: elefast.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports of failed tests go without it then; `db.changes()` goes on."""
    checkout = stack.checkout("test")
    _execute(checkout.sync.engine, "create table slow (n int)", "insert into slow values (1)")
    assert checkout.changes()["slow"].inserted == 1
    _execute(checkout.sync.engine, "insert into slow select generate_series(1, 300000)")
    monkeypatch.setattr("elefast.databases.changes._SECONDS", 0.001)
    for _ in range(2):
        with pytest.raises(ElefastError, match="cannot be compared") as caught:
            checkout.changes()
        assert caught.value.code == "changes-unreadable"
    checkout.release()


def test_async_and_own_servers(stack: elefast.Stack, url: URL) -> None:
    """The async twin, and servers that a user makes from URLs and engines."""

    async def use(server: elefast.AsyncDatabaseServer) -> None:
        async with await server.create_database() as database:
            async with database.changes() as changes, database.engine.begin() as connection:
                await connection.execute(text("create table note as select 1 as n"))
            assert changes["note"].inserted == 1

    asyncio.run(use(stack.async_server))
    asyncio.run(use(elefast.AsyncDatabaseServer(url.set(drivername="postgresql+asyncpg"))))
    for driver in ("psycopg", "psycopg2", "pg8000"):
        engine = create_engine(url.set(drivername=f"postgresql+{driver}"))
        with elefast.DatabaseServer(engine).create_database() as database:
            with database.changes() as changes:
                _execute(database.engine, 'create table "odd %s \\:name" as select 1 as n, \'a%b\' as "odd %s \\:name"')
            assert changes["odd %s :name"].inserted == 1
        engine.dispose()

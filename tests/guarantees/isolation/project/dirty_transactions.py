"""Each test sees a database that nobody has touched, and then touches it, all of them over one connection."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from elefast import AsyncDatabase, Database
from elefast.errors import RefusedError

from .dirt import DIRT, SHARED, Dirt
from .snapshot import snapshot
from .transactions import FATES

PRISTINE: dict[str, list[list[str]]] = json.loads(Path(__file__).with_name("pristine.json").read_text("utf-8"))
STAYS: dict[str, set[str]] = {"sync": set(), "async": set()}
"""Parts of the look at the database that are other than at first, as is written in the documentation."""
NAMES: list[str] = []
LEFT: list[Any] = []


def each(*dirt: Dirt) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dirt", dirt, ids=lambda dirt: dirt.name)


def check(connection: Connection) -> None:
    """Nobody has touched it, but for what is known to stay until the database is another one."""
    name = connection.scalar(text("SELECT current_database()"))
    if NAMES[-1:] != [name]:
        assert name not in NAMES
        NAMES.append(name)
        STAYS["sync"].clear()
        STAYS["async"].clear()
    seen = snapshot(connection)
    stays = STAYS["sync"] | STAYS["async"]
    assert {part: rows for part, rows in seen.items() if part not in stays} == {
        part: rows for part, rows in PRISTINE.items() if part not in stays
    }


def make(connection: Connection, dirt: Dirt, kind: str) -> None:
    fate = FATES.get(dirt.name)
    refused = fate.refused if fate else ""
    with pytest.raises(DBAPIError, match=refused) if refused else nullcontext():
        for statement in dirt.statements:
            connection.exec_driver_sql(statement.replace("{kind}", kind))
        connection.commit()
    if fate:
        STAYS[kind] |= fate.stays


@each(*DIRT, *SHARED)
def test_sync(db: Database, dirt: Dirt, db_connection: Connection) -> None:
    check(db_connection)
    db_connection.rollback()
    make(db_connection, dirt, "sync")
    LEFT.append(db_connection)


@each(*DIRT)
@pytest.mark.asyncio
async def test_async(async_db: AsyncDatabase, dirt: Dirt) -> None:
    async with async_db.session() as session:
        connection = await session.connection()
        await connection.run_sync(check)
        await session.rollback()
        connection = await session.connection()
        await connection.run_sync(make, dirt, "async")
        LEFT.append(session)


def _insert(dsn: str) -> None:
    import psycopg

    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO author (name) VALUES ('x')")


PAST: dict[str, Callable[[Database, Connection], object]] = {
    "commit": lambda db, connection: connection.exec_driver_sql("COMMIT"),
    "rollback": lambda db, connection: connection.exec_driver_sql("ROLLBACK"),
    "another-session": lambda db, connection: _insert(db.dsn),
    "closed": lambda db, connection: connection.connection.dbapi_connection.close(),  # type: ignore[union-attr]
}


@pytest.mark.parametrize("how", PAST)
def test_past_it(db: Database, db_connection: Connection, how: str) -> None:
    check(db_connection)
    db_connection.exec_driver_sql("INSERT INTO author (name) VALUES ('past')")
    PAST[how](db, db_connection)


def test_a_thread_that_writes_later(db: Database, db_connection: Connection) -> None:
    check(db_connection)
    go = threading.Event()

    def write() -> None:
        go.wait(30)
        with pytest.raises(RefusedError), db.session() as session:
            session.execute(text("INSERT INTO author (name) VALUES ('too late')"))

    LEFT.append((go, threading.Thread(target=write, daemon=True)))
    LEFT[-1][1].start()


def test_after_the_thread(db_connection: Connection) -> None:
    go, thread = LEFT[-1]
    check(db_connection)
    go.set()
    thread.join(30)
    assert not thread.is_alive()
    check(db_connection)


@pytest.mark.asyncio
async def test_a_task_that_is_never_awaited(async_db: AsyncDatabase) -> None:
    async with async_db.session() as session:
        await (await session.connection()).run_sync(check)

    async def write() -> None:
        async with async_db.session() as session:
            await session.execute(text("INSERT INTO author (name) SELECT 'x' FROM pg_sleep(5)"))

    LEFT.append(asyncio.create_task(write()))
    await asyncio.sleep(0.02)


def test_the_last_one(db_connection: Connection) -> None:
    check(db_connection)

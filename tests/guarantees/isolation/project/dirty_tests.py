"""Each test sees a database that nobody has touched, and then touches it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast import AsyncDatabase, Database

from .dirt import DIRT, SHARED, Dirt
from .snapshot import snapshot

PRISTINE: dict[str, list[list[str]]] = json.loads(Path(__file__).with_name("pristine.json").read_text("utf-8"))
LEFT: list[Any] = []


def each(*dirt: Dirt) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dirt", dirt, ids=lambda dirt: dirt.name)


def check(connection: Connection) -> None:
    """Nobody has touched it."""
    assert snapshot(connection) == PRISTINE


def make(connection: Connection, dirt: Dirt, kind: str) -> None:
    for statement in dirt.statements:
        connection.exec_driver_sql(statement.replace("{kind}", kind))
    if not dirt.open:
        with pytest.raises(DBAPIError, match=dirt.fails) if dirt.fails else nullcontext():
            connection.commit()


@each(*DIRT, *SHARED)
def test_sync(db: Database, dirt: Dirt) -> None:
    with db.engine.connect() as connection:
        check(connection)
    connection = db.engine.connect()
    if dirt.autocommit:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
    make(connection, dirt, "sync")
    LEFT.append(connection)
    if not dirt.open:
        connection.close()


@each(*DIRT)
@pytest.mark.asyncio
async def test_async(async_db: AsyncDatabase, dirt: Dirt) -> None:
    async with async_db.engine.connect() as connection:
        await connection.run_sync(check)
    connection = await async_db.engine.connect()
    if dirt.autocommit:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
    await connection.run_sync(make, dirt, "async")
    LEFT.append(connection)
    if not dirt.open:
        await connection.close()


def test_a_thread_that_writes_later(db: Database) -> None:
    with db.engine.connect() as connection:
        check(connection)

    def write() -> None:
        time.sleep(0.05)
        with db.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO author (name) VALUES ('too late')")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    LEFT.append(thread)


@pytest.mark.asyncio
async def test_a_task_that_is_never_awaited(async_db: AsyncDatabase) -> None:
    async with async_db.engine.connect() as connection:
        await connection.run_sync(check)

    async def write() -> None:
        async with async_db.engine.begin() as connection:
            await connection.exec_driver_sql("INSERT INTO author (name) SELECT 'x' FROM pg_sleep(5)")

    LEFT.append(asyncio.create_task(write()))
    await asyncio.sleep(0.02)


def test_a_query_that_still_runs(db: Database) -> None:
    with db.engine.connect() as connection:
        check(connection)
    connection = db.engine.connect()

    def sleep() -> None:
        with suppress(DBAPIError):
            connection.exec_driver_sql("SELECT pg_sleep(9)")

    thread = threading.Thread(target=sleep)
    thread.start()
    LEFT.append((connection, thread))
    time.sleep(0.02)


def test_the_last_one(db: Database) -> None:
    with db.engine.connect() as connection:
        check(connection)

"""Each test sees a database that looks as if nobody had touched it, and knows whether it is that of the last test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from elefast import AsyncDatabase, Database

from .again import MAY_COME_BACK, PUT_BACK
from .dirt import DIRT, Dirt
from .dirty_tests import make
from .snapshot import snapshot

PRISTINE: dict[str, list[list[str]]] = json.loads(Path(__file__).with_name("pristine.json").read_text("utf-8"))
BEFORE: list[tuple[int, str]] = []
LEFT: list[Any] = []
KINDS = [dirt for dirt in DIRT if not dirt.leaks]


def check(connection: Connection, name: str) -> None:
    """Nobody has touched it; and it is the one before, under another name, where that was to be put back."""
    assert snapshot(connection) == PRISTINE
    oid = connection.scalar(text("SELECT oid::bigint FROM pg_database WHERE datname = current_database()"))
    if BEFORE:
        before, what = BEFORE[-1]
        assert what in MAY_COME_BACK or (oid == before) == (what in PUT_BACK), f"after {what}"
    BEFORE.append((oid or 0, name))


@pytest.mark.parametrize("dirt", KINDS, ids=lambda dirt: dirt.name)
def test_sync(db: Database, dirt: Dirt) -> None:
    with db.engine.connect() as connection:
        check(connection, dirt.name)
    with db.engine.connect() as connection:
        if dirt.autocommit:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        make(connection, dirt, "sync")


@pytest.mark.parametrize("dirt", KINDS, ids=lambda dirt: dirt.name)
@pytest.mark.asyncio
async def test_async(async_db: AsyncDatabase, dirt: Dirt) -> None:
    async with async_db.engine.connect() as connection:
        await connection.run_sync(check, dirt.name)
    async with async_db.engine.connect() as connection:
        if dirt.autocommit:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.run_sync(make, dirt, "async")


def test_the_last_one(db: Database) -> None:
    with db.engine.connect() as connection:
        check(connection, "nothing")

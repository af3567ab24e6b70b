"""A test touches its database, then those of a class touch theirs, which they share, and then another test does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from elefast import AsyncDatabase, Database

from .dirt import DIRT, SHARED, Dirt
from .dirty_tests import LEFT, check, make

NAMES: list[str] = []


def _touch(database: Database, dirt: Dirt, kind: str) -> None:
    connection = database.engine.connect()
    if dirt.autocommit:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
    make(connection, dirt, kind)
    LEFT.append(connection)
    if not dirt.open:
        connection.close()


def _alone(dirt: Dirt, kind: str) -> Callable[[Database], None]:
    """A test with a database of its own, which nobody has touched."""

    def test(db: Database) -> None:
        assert db.name not in NAMES
        with db.engine.connect() as connection:
            check(connection)
        _touch(db, dirt, kind)

    return test


def _together(dirt: Dirt) -> type:
    """The tests of a class: the first one finds its database as new, and touches it; the next ones have the same."""

    @pytest.mark.elefast(scope="class")
    class Test:
        def test_first(self, db: Database) -> None:
            NAMES.append(db.name)
            with db.engine.connect() as connection:
                check(connection)
            _touch(db, dirt, "scope")

        def test_next(self, db: Database) -> None:
            assert db.name == NAMES[-1]

    return Test


def _together_async(dirt: Dirt) -> type:
    """The same over an async engine."""

    @pytest.mark.elefast(scope="class")
    @pytest.mark.asyncio(loop_scope="class")
    class Test:
        async def test_first(self, async_db: AsyncDatabase) -> None:
            NAMES.append(async_db.name)
            async with async_db.engine.connect() as connection:
                await connection.run_sync(check)
            connection = await async_db.engine.connect()
            if dirt.autocommit:
                connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.run_sync(make, dirt, "async_scope")
            LEFT.append(connection)
            if not dirt.open:
                await connection.close()

        async def test_next(self, async_db: AsyncDatabase) -> None:
            assert async_db.name == NAMES[-1]

    return Test


def _named(name: str, found: Any) -> None:
    found.__name__ = found.__qualname__ = name
    globals()[name] = found


for _dirt in DIRT:
    _name = _dirt.name.replace("-", "_")
    _named(f"test_before_{_name}", _alone(_dirt, "before"))
    _named(f"TestSync_{_name}", _together(_dirt))
    _named(f"test_between_{_name}", _alone(_dirt, "between"))
    _named(f"TestAsync_{_name}", _together_async(_dirt))
    _named(f"test_after_{_name}", _alone(_dirt, "after"))
for _dirt in SHARED:
    _named(f"TestSync_{_dirt.name.replace('-', '_')}", _together(_dirt))


def test_the_last_one(db: Database) -> None:
    with db.engine.connect() as connection:
        check(connection)

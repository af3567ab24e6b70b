"""Roles with `isolation = "transaction"`: the one connection of a test has the role, and sessions can have others."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from elefast.errors import RefusedError
from elefast.postgres.sql import identifier
from tests.integration.roles.conftest import Start

WHO = text("select current_user || ' ' || session_user")
COUNT = text("select count(*) from note")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_sessions_have_the_role(start: Start, role: str, driver: str) -> None:
    """One test after the other has the role, its URL names it, and nothing that it wrote is left."""
    stack = start(engine={"driver": driver}, isolation="transaction")
    for _ in range(2):
        database = stack.checkout_transaction("a test")
        assert database.sync.url.username == database.engine.url.username == role
        with database.sync.session() as session:
            assert session.scalar(WHO) == f"{role} {role}"
            assert session.scalar(COUNT) == 0
            session.execute(text("set local app.tenant = 1"))
            session.execute(text("insert into note values (1, 'mine')"))
            assert session.scalar(COUNT) == 2
            session.commit()
        with database.sync.session() as session, pytest.raises(DBAPIError, match="must be owner"):
            session.execute(text("drop table note"))
        assert database.release(wait=True) == []


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_sessions_of_several_roles_take_turns(start: Start, role: str, driver: str) -> None:
    """Each statement has the role and the settings of its session, also after errors and in savepoints."""
    stack = start(
        engine={"driver": driver}, isolation="transaction", roles={role: {"grants": "write"}, f"{role}_b": {}}
    )
    database = stack.checkout_transaction("a test")
    with database.sync.as_role(role, settings={"app.tenant": "1"}) as one:
        with one.session() as session:
            assert session.scalar(text("select body from note")) == "one"
            session.execute(text("insert into note values (1, 'new')"))
            with pytest.raises(DBAPIError, match="row-level security"), session.begin_nested():
                session.execute(text("insert into note values (2, 'no')"))
            assert session.scalar(COUNT) == 2
            session.commit()
        with one.as_role("") as owner, owner.session() as session:
            assert session.scalar(COUNT) == 3
            session.execute(text("insert into note values (2, 'of the owner')"))
            session.commit()
        with database.sync.as_role(f"{role}_b") as other, other.session() as session:
            with pytest.raises(DBAPIError, match="permission denied"):
                session.execute(COUNT)
            session.rollback()
            assert session.scalar(WHO) == f"{role}_b {role}_b"
        with database.sync.session() as session:
            assert session.scalar(WHO) == f"{role} {role}"
            assert session.scalar(text("select coalesce(current_setting('app.tenant', true), '')")) == ""
            session.execute(text("set local app.tenant = 2"))
            assert session.scalar(COUNT) == 2
            with one.session() as inner:
                assert inner.scalar(COUNT) == 2
            assert session.scalar(text("select current_setting('app.tenant')")) == "2"
    assert database.release(wait=True) == []
    again = stack.checkout_transaction("another test")
    with again.sync.as_role("") as owner, owner.session() as session:
        assert session.scalar(COUNT) == 2
    assert again.name == database.name
    assert again.release(wait=True) == []


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_sessions(start: Start, role: str, driver: str) -> None:
    """The same for async sessions."""
    stack = start(engine={"async_driver": driver}, isolation="transaction")
    database = stack.checkout_transaction("a test")

    async def use() -> None:
        async with database.async_.session() as session:
            assert await session.scalar(WHO) == f"{role} {role}"
        async with (
            database.async_.as_role(role, settings={"app.tenant": "1"}) as tenant,
            tenant.session() as session,
        ):
            assert await session.scalar(text("select body from note")) == "one"
            with pytest.raises(DBAPIError, match="row-level security"):
                await session.execute(text("insert into note values (2, 'no')"))
            await session.rollback()
            assert await session.scalar(COUNT) == 1
        async with database.async_.session() as session:
            assert await session.scalar(COUNT) == 0

    asyncio.run(use())
    assert database.release(wait=True) == []


def test_settings_of_the_role_hold(start: Start, role: str, admin: psycopg.Connection) -> None:
    """What ALTER ROLE ... SET says has the same effect as for a login."""
    stack = start(isolation="transaction")
    stack.service.manager.template()
    admin.execute(f"alter role {identifier(role)} set app.tenant = '2'".encode())
    database = stack.checkout_transaction("a test")
    with database.sync.session() as session:
        assert session.scalar(text("select body from note")) == "two"
    assert database.release(wait=True) == []


def test_the_driver_of_a_session_of_another_role_is_refused(start: Start, role: str) -> None:
    """A statement that elefast does not see would have the role of the connection."""
    database = start(isolation="transaction").checkout_transaction("a test")
    with (
        database.sync.as_role("") as owner,
        owner.session() as session,
        pytest.raises(RefusedError, match="its driver cannot be used directly"),
    ):
        session.connection().connection.cursor()
    database.release(wait=True)

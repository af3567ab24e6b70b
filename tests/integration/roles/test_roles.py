"""A test's sessions are those of a declared role; all of elefast's work has the server's user."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from elefast.errors import ConfigurationError
from elefast.postgres import cluster_snapshot
from elefast.postgres.sql import execute
from tests.integration.roles.conftest import Start

WHO = text("select current_user || ' ' || session_user")
COUNT = text("select count(*) from note")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_sessions_have_the_role(start: Start, role: str, driver: str) -> None:
    """Engine, url and dsn of the test's database name the role, with every sync driver."""
    stack = start(engine={"driver": driver})
    database = stack.checkout("a test")
    with database.sync.session() as session:
        assert session.scalar(WHO) == f"{role} {role}"
        assert session.scalar(COUNT) == 0
    assert database.url.username == database.sync.url.username == role
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("select current_user").fetchone() == (role,)
    database.release(wait=True)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_sessions_have_the_role(start: Start, role: str, driver: str) -> None:
    """The same with every async driver, and `as_role` is an async context manager."""
    stack = start(engine={"async_driver": driver})
    database = stack.checkout("a test")

    async def use() -> None:
        async with database.async_.session() as session:
            assert await session.scalar(WHO) == f"{role} {role}"
        async with (
            database.async_.as_role(role, settings={"app.tenant": "1"}) as tenant,
            tenant.session() as session,
        ):
            assert await session.scalar(text("select body from note")) == "one"
        async with database.async_.as_role("") as owner, owner.session() as session:
            assert await session.scalar(COUNT) == 2
        await database.async_engine.dispose()

    asyncio.run(use())
    assert database.release(wait=True) == []


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_as_role_has_its_settings(start: Start, role: str, driver: str) -> None:
    """Each session of it has the settings, also after a rollback, and the views differ."""
    stack = start(engine={"driver": driver})
    database = stack.checkout("a test")
    odd = "100% :a 'b' \\ ü"
    with database.sync.as_role(role, settings={"app.tenant": 2, "app.odd": odd}) as tenant:
        with tenant.session() as session:
            assert session.scalar(text("select body from note")) == "two"
            session.rollback()
            assert session.scalar(text("select current_setting('app.odd')")) == odd
        with tenant.as_role("") as owner, owner.session() as session:
            assert session.scalar(COUNT) == 2
    with database.sync.session() as session:
        assert session.scalar(COUNT) == 0
    assert database.release(wait=True) == []


def test_an_undeclared_role_is_an_error(start: Start, role: str) -> None:
    """The message has the known roles and what to write."""
    database = start().checkout("a test")
    expected = f'is not declared, the known ones are "{role}", did you mean'
    with pytest.raises(ConfigurationError, match=expected), database.sync.as_role(f"{role}x"):
        pass
    database.release(wait=True)


def test_databases_are_reset_and_the_next_test_has_the_role(start: Start, role: str) -> None:
    """A used database comes back, and its connection that was opened ahead is the role's, never the reset's."""
    stack = start(TENANTS_WITHOUT_ROWS, pool={"size": 1, "max": 1})
    for number in range(6):
        database = stack.checkout(f"test {number}")
        with database.sync.as_role(role, settings={"app.tenant": "1"}) as tenant, tenant.session() as session:
            session.execute(text("insert into note values (1, 'mine')"))
            session.commit()
        with database.sync.session() as session:
            assert session.scalar(WHO) == f"{role} {role}"
        with database.sync.as_role("") as owner, owner.session() as session:
            assert session.scalar(COUNT) == 1
        database.release()
        stack.service.pool.wait_until(lambda state: len(state.idle) == 1, 10)
    assert len(stack.report().restore) > 0


TENANTS_WITHOUT_ROWS = """
create table note (tenant int not null, body text);
alter table note enable row level security;
alter table note force row level security;
create policy tenant_only on note using (tenant = nullif(current_setting('app.tenant', true), '')::int);
"""


def test_grants_are_what_the_role_may_do(start: Start, role: str) -> None:
    """`read` may select and not insert, and `none` may do neither."""
    stack = start(roles={role: {"grants": "read"}, f"{role}_none": {}})
    database = stack.checkout("a test")
    with database.sync.session() as session:
        session.execute(COUNT)
        with pytest.raises(DBAPIError, match="permission denied"):
            session.execute(text("insert into note values (1)"))
    with (
        database.sync.as_role(f"{role}_none") as other,
        other.session() as session,
        pytest.raises(DBAPIError, match="permission denied"),
    ):
        session.execute(COUNT)
    assert database.release(wait=True) == []


def test_grants_are_part_of_the_key(start: Start, role: str) -> None:
    """Another level is another template."""
    first = start(roles={role: {"grants": "read"}})
    first.checkout().release(wait=True)
    second = start(roles={role: {"grants": "write"}})
    second.checkout().release(wait=True)
    assert (first.report().builds, second.report().builds) == (1, 1)


def test_bypass_and_membership(start: Start, role: str) -> None:
    """A role may bypass policies, and has the rights of the roles that it is a member of."""
    stack = start(
        roles={
            role: {"member_of": [f"{role}_parent"]},
            f"{role}_parent": {"grants": "read"},
            f"{role}_all": {"grants": "read", "bypass_rls": True},
        }
    )
    database = stack.checkout("a test")
    with database.sync.session() as session:
        assert session.scalar(COUNT) == 0
    with database.sync.as_role(f"{role}_all") as other, other.session() as session:
        assert session.scalar(COUNT) == 2
    assert database.release(wait=True) == []


def test_a_change_of_a_declared_role_is_a_leak(start: Start, role: str) -> None:
    """A test that changes the role is found; roles that other runs create and mark meanwhile are no test's leak."""
    stack = start()
    stack.service.manager.template()
    session = stack.service.manager.session

    def look(known: frozenset[str]) -> dict[str, str]:
        return session.call(cluster_snapshot.snapshot, system=False, parameters=False, known_roles=known)

    key = f'role "{role}"'
    before = look(frozenset({role}))
    assert key in before
    assert not [name for name in look(frozenset()) if role in name]
    assert not [name for name in before if name.startswith("comment") and role in name]
    session.call(execute, f"alter role {role} createdb")
    assert look(frozenset({role}))[key] != before[key]

"""Databases that a run did not use are spares for the next one; on a server that ends, nothing is dropped."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

import elefast
from elefast.databases.pool import DatabasePool
from elefast.postgres import databases
from elefast.postgres.databases import ClientSession
from elefast.postgres.names import Kind, Name

Start = Callable[..., "subprocess.Popen[str]"]
Waiting = Callable[[], dict[str, int]]


@pytest.fixture
def waiting(server_url: str) -> Waiting:
    """The databases that wait for a next run, and their oids."""

    def waiting() -> dict[str, int]:
        with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
            found = connection.execute("select datname, oid::int from pg_database order by oid").fetchall()
        return {text: oid for text, oid in found if (name := Name.parse(text)) and name.kind is Kind.SPARE}

    return waiting


def fill(stack: elefast.Stack, size: int = 4) -> None:
    """Have the pool full."""
    for _ in range(2):
        stack.checkout().release()
    deadline = time.monotonic() + 60
    while len(stack.service.pool.state().idle) < size:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def oid(stack: elefast.Stack, name: str) -> int:
    """What the server knows a database by, whatever its name."""
    engine = stack.service.engine(name)
    with engine.connect() as connection:
        found = connection.scalar(text("select oid::int from pg_database where datname = current_database()"))
    engine.dispose()
    return int(found or 0)


def test_the_next_run_has_what_this_one_did_not_use(project: Path, env: dict[str, str], waiting: Waiting) -> None:
    """Up to `pool.size`, with the schema and without a row; they are renamed, not copied."""
    before = waiting()
    with elefast.from_config(project, env=env) as stack:
        fill(stack)
        used = stack.checkout()
        with used.sync.session() as session:
            session.execute(text("insert into note values ('dirty')"))
            session.commit()
        used.release()
    left = {name: number for name, number in waiting().items() if name not in before}
    assert 2 <= len(left) <= 4
    # Without a pool, whose thread takes some of them as well.
    with elefast.from_config(project, env=env, pool={"size": 0}) as stack:
        seen: list[int] = []
        for _ in left:
            lent = stack.checkout()
            with lent.sync.session() as session:
                assert session.scalar(text("select count(*) from note")) == 0
            seen.append(oid(stack, lent.name))
            lent.release()
        assert sorted(seen) == sorted(left.values())
    assert stack.report().builds == 0


def test_copies_of_a_template_that_was_dropped_meanwhile_are_not_left(
    project: Path, env: dict[str, str], waiting: Waiting, server_url: str
) -> None:
    """The next run would take them for copies of the one that was built in its place."""
    before = waiting()
    with elefast.from_config(project, env=env) as stack:
        fill(stack)
        template = stack.report().template
        with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f'alter database "{template}" is_template false'.encode())
            connection.execute(f'drop database "{template}"'.encode())
        (project / "schema.sql").write_text("create table other ()", encoding="utf-8")
        name = stack.service.checkout("special", "utf8")
        stack.service.release(name, wait=True)
    assert waiting().keys() <= before.keys()
    with elefast.from_config(project, env=env) as stack:
        lent = stack.checkout()
        with lent.sync.session() as session:
            assert session.scalar(text("select to_regclass('other') is not null"))
        lent.release()


def test_nobody_connects_to_one_that_waits(
    project: Path, env: dict[str, str], server_url: str, waiting: Waiting
) -> None:
    """So nobody can have written to it, and no monitoring holds up the rename."""
    with elefast.from_config(project, env=env) as stack:
        fill(stack)
    name = list(waiting())[-1]
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(server_url.replace("+psycopg", "").removesuffix("postgres") + name)


def test_no_more_than_the_size_of_a_pool_wait_for_a_template(start: Start, waiting: Waiting) -> None:
    """However many processes leave some, and nobody gets one that another one has."""
    before = waiting()
    program = """
import elefast
from sqlalchemy import text
from tests.integration.stack.test_spares import fill
with elefast.from_config() as stack:
    fill(stack)
    for lent in [stack.checkout() for _ in range(3)]:
        with lent.sync.session() as session:
            assert session.scalar(text("select count(*) from note")) == 0
            session.execute(text("insert into note values ('x')"))
            session.commit()
        lent.release()
    print(stack.report().databases)
"""
    for _ in range(2):
        processes = [start(program, PYTHONPATH=str(Path(__file__).parents[3])) for _ in range(3)]
        done = [process.communicate(timeout=240) for process in processes]
        assert done == [("5\n", "")] * 3
        assert 1 <= len(waiting().keys() - before.keys()) <= 4


def test_they_go_with_their_template(project: Path, env: dict[str, str], waiting: Waiting) -> None:
    """Whether it retires, is pruned, or somebody drops it."""
    before = waiting()
    for body in ("text", "varchar"):
        (project / "schema.sql").write_text(f"create table note (body {body});\n-- {project}\n")
        with elefast.from_config(project, env=env, template={"keep": 0}) as stack:
            fill(stack)
            template = stack.report().template
        left = waiting().keys() - before.keys()
        assert 1 <= len(left) <= 4
    with psycopg.connect(env["ELEFAST_ENGINE__URL"].replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'alter database "{template}" is_template false')
        connection.execute(f'drop database "{template}"')
    with elefast.from_config(project, env=env) as stack:
        stack.checkout()
        assert not left & waiting().keys()
        assert stack.admin().prune(templates=True) is not None


def test_on_a_server_that_goes_nothing_is_dropped_at_the_end(
    project: Path, elefast_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes its databases with it; but what a test left open is named."""
    env = {"_ELEFAST_ROOT": str(elefast_root)}
    with elefast.from_config(project, env=env, provider="local", local={"reuse": False}) as stack:
        fill(stack)
        lent = stack.checkout("a test")
        leaked = psycopg.connect(lent.dsn, application_name="culprit")
        dropped: list[str] = []
        drop = databases.drop

        def noted(connection: Connection, name: str, *, force: bool = False) -> bool:
            dropped.append(name)
            return drop(connection, name, force=force)

        pool = stack.service.pool
        deadline = time.monotonic() + 60
        while not pool.state().is_quiet:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        monkeypatch.setattr(databases, "drop", noted)
        with pool._changed:
            pool._in_use.discard(lent.name)
            pool._used.append((lent.name, "a test"))
            pool._closing, pool._drops = True, False
            pool._wake()
        stack.close()
        assert dropped == []
        assert stack.started
        assert [(leak.test, "culprit" in leak.text) for leak in stack.started.take_leaks()] == [("a test", True)]
        leaked.close()


def test_no_drop_meets_a_session(project: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL sleeps 100 ms where one is left, so each drop comes when all have gone, and none is forced."""
    met: list[list[ClientSession]] = []
    forced: list[str] = []
    drop = databases.drop

    def watched(connection: Connection, name: str, *, force: bool = False, oid: int = 0) -> bool:
        met.append(list(databases.client_sessions(connection, name)))
        forced.extend([name] if force else [])
        return drop(connection, name, force=force, oid=oid)

    monkeypatch.setattr(databases, "drop", watched)
    with elefast.from_config(project, env=env, pool={"reuse": False}) as stack:
        for _ in range(12):
            lent = stack.checkout()
            with lent.sync.session() as session:
                session.execute(text("insert into note values ('x')"))
                session.commit()
            lent.release()
    assert len(met) >= 12
    assert not any(met)
    assert not forced


def test_a_pool_without_room_makes_nothing_ahead(stack: elefast.Stack) -> None:
    """What is asked for is made all the same."""
    stack.checkout().release(wait=True)
    looked: list[bool] = []

    def has_room() -> bool:
        looked.append(True)
        return False

    manager = stack.service.manager
    pool = DatabasePool(manager, size=4, limit=8, has_room=has_room)
    taken = [pool.checkout() for _ in range(3)]
    assert [ready for _, ready in taken] == [False] * 3
    for name, _ in taken:
        pool.release(name, "")
    assert pool.close() == []
    assert looked


def test_a_single_database_starts_no_thread(stack: elefast.Stack) -> None:
    """A run of one test ends without waiting for anybody."""
    stack.checkout().release()
    assert stack.service.pool.state().threads == 0

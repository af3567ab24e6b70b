"""The first connection of a test's engine is open before the test asks for it, and the test does not notice."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import psycopg
import pytest
from sqlalchemy import Engine, Integer, String, event, func, inspect, literal, literal_column, select, text
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import Pool
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator

import elefast
from elefast.isolation.database import DatabaseCheckout
from elefast.postgres.reset import MINIMUM_VERSION
from elefast.postgres.urls import dsn

Driver = Literal["psycopg", "psycopg2", "pg8000"]

Start = Callable[..., "subprocess.Popen[str]"]
DRIVERS = ("psycopg", "psycopg2", "pg8000")


def next_one(stack: elefast.Stack) -> DatabaseCheckout:
    """A database that was connected to ahead."""
    for _ in range(2):
        lent = stack.checkout()
        with lent.sync.engine.connect():
            pass
        lent.release()
    until_connected(stack)
    return stack.checkout()


def until_connected(stack: elefast.Stack) -> None:
    """Wait until the pool has done to the next database whatever it does."""
    pool, preconnector = stack.service.pool, stack.service.preconnector
    deadline = time.monotonic() + 60
    while not ((idle := pool.state().idle) and preconnector.is_connected(idle[0])):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pid(engine: Engine) -> int:
    """The backend of a connection of the engine's."""
    with engine.connect() as connection:
        return int(connection.scalar(text("select pg_backend_pid()")) or 0)


def came_back(stack: elefast.Stack) -> float:
    """How many databases were reset; infinite where PostgreSQL does not tell what that takes."""
    known = stack.service.manager.session.server_info.version >= MINIMUM_VERSION
    return len(stack.report().restore) if known else float("inf")


@pytest.fixture
def ask(server_url: str) -> Iterator[Callable[..., list[Any]]]:
    """Ask the server something, past elefast; the first column."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield lambda query, *values: [row[0] for row in connection.execute(query, values)]


@pytest.fixture
def on_it(ask: Callable[..., list[Any]]) -> Callable[[DatabaseCheckout], list[int]]:
    """The backends on a database."""
    return lambda lent: ask("select pid from pg_stat_activity where datname = %s", lent.name)


OnIt = Callable[[DatabaseCheckout], list[int]]


@pytest.fixture(params=DRIVERS)
def any_stack(request: pytest.FixtureRequest, project: Path, env: dict[str, str]) -> Iterator[elefast.Stack]:
    """A stack with each sync driver."""
    with elefast.from_config(project, env=env, engine={"driver": request.param, "pool_size": 3}) as stack:
        yield stack


def test_the_first_connection_is_the_one_that_was_open(any_stack: elefast.Stack, on_it: OnIt) -> None:
    """The second one is opened as always."""
    lent = next_one(any_stack)
    (open_already,) = on_it(lent)
    engine = lent.sync.engine
    with engine.connect() as first:
        assert first.scalar(text("select pg_backend_pid()")) == open_already
        assert pid(engine) != open_already
        assert first.scalar(text("select count(*) from note")) == 0
    lent.release()
    assert any_stack.service.take_leaks() == []


def test_to_the_test_it_is_a_fresh_engine(any_stack: elefast.Stack, on_it: OnIt) -> None:
    """Nothing in its pool, all events still to come, and afterwards no trace."""
    lent = next_one(any_stack)
    (open_already,) = on_it(lent)
    engine = lent.sync.engine
    status = "Pool size: 3  Connections in pool: 0 Current Overflow: -3 Current Checked out connections: 0"
    assert engine.pool.status() == status
    seen: list[str] = []
    for name in ("do_connect", "connect", "first_connect", "checkout"):
        event.listen(engine, name, lambda *_, name=name: seen.append(name))
    event.listen(engine, "begin", lambda connection: seen.append("begin"))
    assert pid(engine) == open_already
    assert sorted(seen) == ["begin", "checkout", "connect", "do_connect", "first_connect"]
    assert not {"connect", "initialize"} & vars(engine.dialect).keys()
    lent.release()


def test_a_listener_hears_its_own_engine_only(stack: elefast.Stack) -> None:
    """Engines share no dialect and no pool."""
    first = next_one(stack)
    heard: list[object] = []
    for name in ("do_connect", "connect", "checkout", "do_execute", "before_cursor_execute"):
        event.listen(first.sync.engine, name, lambda *arguments: heard.append(arguments))
    first.release()
    until_connected(stack)
    second = stack.checkout()
    assert pid(second.sync.engine)
    assert heard == []
    assert second.sync.engine.dialect is not first.sync.engine.dialect
    second.release()


def test_a_listener_that_changes_the_arguments_is_obeyed(any_stack: elefast.Stack, on_it: OnIt) -> None:
    """A connection that was opened without it is not the one that it wants."""
    lent = next_one(any_stack)
    (open_already,) = on_it(lent)
    engine = lent.sync.engine

    @event.listens_for(engine, "do_connect")
    def rename(dialect: Any, record: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["application_name"] = "renamed"

    with engine.connect() as connection:
        assert connection.scalar(text("show application_name")) == "renamed"
        assert connection.scalar(text("select pg_backend_pid()")) != open_already
    lent.release()


@pytest.mark.parametrize(("target", "name"), [(Engine, "do_connect"), (Engine, "connect"), (Pool, "connect")])
def test_nothing_is_connected_ahead_where_somebody_listens_to_all_engines(
    stack: elefast.Stack, on_it: OnIt, target: Any, name: str
) -> None:
    """Who listens to all of them counts, refuses or changes connections, and must see them when a test connects."""

    def listen(*arguments: Any) -> None:
        pass

    event.listen(target, name, listen)
    try:
        lent = next_one(stack)
        assert on_it(lent) == []
        assert pid(lent.sync.engine)
        lent.release()
    finally:
        event.remove(target, name, listen)


def test_the_arguments_are_the_projects(project: Path, env: dict[str, str], ask: Callable[..., list[Any]]) -> None:
    """Those of `connect_args`, from the start."""
    with elefast.from_config(project, env=env, engine={"connect_args": {"application_name": "mine"}}) as stack:
        lent = next_one(stack)
        assert ask("select application_name from pg_stat_activity where datname = %s", lent.name) == ["mine"]
        lent.release()


def test_a_connection_that_the_server_ended_is_not_given_out(
    any_stack: elefast.Stack, ask: Callable[..., list[Any]]
) -> None:
    """A test that comes late has one of its own."""
    lent = next_one(any_stack)
    ask("select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = %s", lent.name)
    with lent.sync.session() as session:
        assert session.scalar(text("select count(*) from note")) == 0
    lent.release()


def test_a_database_that_nobody_connects_to_leaves_no_session(stack: elefast.Stack, on_it: OnIt) -> None:
    """The one ahead is ours, not the test's: it is no leak, and after such a test none is opened."""
    lent = next_one(stack)
    assert len(on_it(lent)) == 1
    assert lent.release(wait=True) == []
    assert stack.service.preconnector.wanted is False
    assert stack.service.take_leaks() == []


def test_another_engine_to_the_same_database_is_another_one(stack: elefast.Stack, on_it: OnIt) -> None:
    """Only the first has what was opened ahead."""
    lent = next_one(stack)
    engines = [stack.service.engine(lent.name) for _ in range(2)]
    assert len({id(engine) for engine in engines}) == 2
    assert [pid(engine) in on_it(lent) for engine in engines] == [True, True]
    for engine in engines:
        engine.dispose()
    lent.release()


def test_a_forked_child_connects_for_itself(start: Start) -> None:
    """What was opened ahead stays its parent's, who uses it afterwards."""
    process = start(
        """
import os, sys, elefast
from sqlalchemy import text
from tests.integration.stack.test_preconnect import next_one, pid
with elefast.from_config() as stack:
    lent = next_one(stack)
    engine = lent.sync.engine
    child = os.fork()
    if not child:
        found = pid(engine)
        engine.dispose()
        print(found, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(pid(engine))
    lent.release()
    assert stack.service.take_leaks() == []
""",
        PYTHONPATH=str(Path(__file__).parents[3]),
        PYTHONWARNINGS="ignore::DeprecationWarning",
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert len(set(out.split())) == 2


def test_a_dialect_asks_once_for_all(stack: elefast.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync and async ones, each for themselves; and all know the same in the end."""
    asked: list[str] = []
    initialize: Any = PGDialect.initialize

    def counted(self: PGDialect, connection: Any) -> None:
        if connection.engine.url.database.startswith("elefast_d"):  # not those of elefast's own sessions
            asked.append(f"{self.driver} {self.is_async}")
        initialize(self, connection)

    monkeypatch.setattr(PGDialect, "initialize", counted)

    async def use(lent: DatabaseCheckout) -> None:
        async with lent.async_.session() as session:
            assert await session.scalar(text("select count(*) from note")) == 0

    told: list[object] = []
    for _ in range(3):
        lent = stack.checkout()
        assert pid(lent.sync.engine)
        asyncio.run(use(lent))
        dialects: list[Any] = [lent.sync.engine.dialect, lent.async_.engine.dialect]
        told += [(d.server_version_info, d.default_schema_name, d.default_isolation_level) for d in dialects]
        lent.release()
    assert sorted(asked) == ["psycopg False", "psycopg True"]
    assert len(set(told)) == 1
    assert len(stack.report().connect) == 6


def test_a_listener_that_sets_the_session_up_is_heard_first(stack: elefast.Stack) -> None:
    """SQLAlchemy's recipe for another search_path, which decides what the dialect is told."""
    for _ in range(2):
        lent = next_one(stack)
        engine = lent.sync.engine

        @event.listens_for(engine, "connect", insert=True)
        def set_search_path(connection: Any, record: Any) -> None:
            connection.autocommit = True
            connection.execute("create schema if not exists other")
            connection.execute("set search_path = other")
            connection.autocommit = False

        assert inspect(engine).default_schema_name == "other"
        lent.release()
    lent = next_one(stack)
    assert inspect(lent.sync.engine).default_schema_name == "public"
    lent.release()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_what_a_test_adds_before_it_connects_is_seen(
    project: Path, env: dict[str, str], ask: Callable[..., list[Any]], driver: Driver
) -> None:
    """An extension whose type the driver has to know, made over another connection."""
    if not ask("select name from pg_available_extensions where name = 'hstore'"):
        pytest.skip("the server has no hstore")
    with elefast.from_config(project, env=env, engine__driver=driver) as stack:
        lent = next_one(stack)
        with psycopg.connect(lent.dsn) as connection:
            connection.execute("create extension hstore")
        with lent.sync.session() as session:
            assert session.scalar(text("select 'a=>1'::hstore")) == {"a": "1"}
        lent.release()
        plain = next_one(stack)
        assert pid(plain.sync.engine)
        plain.release()


@pytest.mark.parametrize("used", [True, False])
def test_a_driver_that_cannot_close_what_the_server_ended_harms_nobody(
    project: Path, env: dict[str, str], ask: Callable[..., list[Any]], used: bool
) -> None:
    """pg8000 raises where it cannot say goodbye: neither the test nor the pool, which goes on, is to see it."""
    with elefast.from_config(project, env=env, engine={"driver": "pg8000"}) as stack:
        lent = next_one(stack)
        reservation = stack.service.preconnector._reservations[lent.name]
        assert reservation.first
        assert reservation.engine
        connection = reservation.first._held
        dialect: Any = reservation.engine.dialect
        ask("select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = %s", lent.name)
        deadline = time.monotonic() + 60
        with suppress(OSError):
            while time.monotonic() < deadline:  # until our side knows that the other one has gone
                connection._usock.send(b"\0")
        with pytest.raises(dialect.dbapi.InterfaceError):
            connection.close()
        if used:
            assert pid(lent.sync.engine)
        lent.release()
        pool = stack.service.pool
        assert pool.wait_until(lambda state: state.is_quiet, 60)
        assert pool.state().size
    assert stack.started
    assert stack.started.take_leaks() == []


def test_who_takes_the_next_database_before_it_is_connected_to_waits_for_that(
    stack: elefast.Stack, on_it: OnIt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else there would be two engines and a session more, and the next tests' were not connected ahead any more."""
    first = next_one(stack)
    assert pid(first.sync.engine)
    until_connected(stack)
    ahead = stack.service.preconnector
    chosen, asked = Event(), Event()
    prepare, make = ahead.prepare, ahead.engine

    def late(*arguments: Any) -> None:
        chosen.set()
        assert asked.wait(60)
        prepare(*arguments)

    def asking(name: str) -> Engine:
        asked.set()
        return make(name)

    monkeypatch.setattr(ahead, "prepare", late)
    monkeypatch.setattr(ahead, "engine", asking)
    second = stack.checkout()  # the pool turns to the one after it
    assert chosen.wait(60)
    lent = stack.checkout()
    engine = lent.sync.engine
    (open_already,) = on_it(lent)
    assert pid(engine) == open_already
    for each in (lent, first):
        assert each.release(wait=True) == []
    assert ahead.wanted
    second.release()


class Model(DeclarativeBase):
    """Of the one table here."""


class Stored(TypeDecorator[str]):
    """Text that a mapper's INSERT changes, by SQL that is written when it is compiled."""

    impl = String
    cache_ok = True
    prefix = "stored"

    def bind_expression(self, bindparam: Any) -> Any:
        return func.concat(literal_column(f"'{self.prefix} '"), bindparam)


class answer(FunctionElement[int]):  # noqa: N801  as SQL functions are called
    """What a query compiles to, by a function of the project."""

    inherit_cache = True
    type = Integer()
    value = "1"


@compiles(answer)
def _answer(element: Any, compiler: Any, **keywords: Any) -> str:
    return answer.value


class Note(Model):
    """A row of the project's table, which has no key of its own."""

    __tablename__ = "note"
    body: Mapped[str] = mapped_column(Stored, primary_key=True)


@pytest.mark.parametrize("isolation", ["database", "transaction"])
def test_what_one_test_compiled_is_not_for_the_others(stack: elefast.Stack, isolation: str) -> None:
    """Queries and the statements of the mapper are compiled for each test, which may change how that is done."""

    def expression() -> str:
        lent = stack.checkout() if isolation == "database" else stack.checkout_transaction()
        try:
            with lent.sync.session() as session:
                session.add(Note(body="x"))
                session.commit()
                return f"{session.scalar(select(answer()))} {session.scalars(select(Note.body)).one()}"
        finally:
            lent.release()

    assert expression() == "1 stored x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "value", "2")
        patch.setattr(Stored, "prefix", "kept")
        assert expression() == "2 kept x"
    assert expression() == "1 stored x"


def test_nothing_compiled_is_shared_where_nothing_is_to_be_kept(project: Path, env: dict[str, str]) -> None:
    """`query_cache_size = 0` is obeyed."""
    with elefast.from_config(project, env=env, engine={"options": {"query_cache_size": 0}}) as stack:
        for _ in range(2):
            lent = stack.checkout()
            with lent.engine.connect() as connection:
                connection.execute(select(Note.body))
            engine: Any = lent.engine
            assert engine._compiled_cache is None
            lent.release()


def test_a_database_that_comes_back_comes_connected(any_stack: elefast.Stack, on_it: OnIt) -> None:
    """By the connection that put it in order, and to the test that is a fresh engine with a session of its own."""
    for _ in range(4):
        lent = next_one(any_stack)
        with lent.sync.session() as session:
            session.execute(text("insert into note values ('x')"))
            session.execute(text("set work_mem = '1234kB'"))
            session.commit()
        lent.release()
        until_settled(any_stack)
    if any_stack.service.manager.session.server_info.version < MINIMUM_VERSION:
        pytest.skip("PostgreSQL 14 does not tell what was written to, see docs/concepts/pool.md")
    assert len(any_stack.report().restore) > 3
    lent = any_stack.checkout()
    (open_already,) = on_it(lent)
    heard: list[str] = []
    event.listen(lent.engine, "connect", lambda *_: heard.append("connect"))
    with lent.engine.connect() as connection:
        assert pid(lent.engine) != open_already
        assert connection.scalar(text("select pg_backend_pid()")) == open_already
        assert connection.scalar(text("select count(*) from note")) == 0
        settings = ("work_mem", "search_path", "statement_timeout", "lock_timeout", "session_replication_role")
        seen = {name: connection.scalar(text(f"show {name}")) for name in settings}
        assert connection.get_isolation_level() == "READ COMMITTED"
        assert connection.in_transaction()
    assert len(heard) == 2
    lent.engine.dispose()
    with psycopg.connect(lent.dsn) as plain:
        assert seen == {name: plain.execute(f"show {name}".encode()).fetchone()[0] for name in settings}  # type: ignore[index]  # each has one
    lent.release()


def until_settled(stack: elefast.Stack) -> None:
    """Wait until no database is being created, reset or dropped."""
    pool = stack.service.pool
    deadline = time.monotonic() + 60
    while not pool.state().is_quiet:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_session_has_no_values_of_sequences(project: Path, env: dict[str, str], driver: Driver) -> None:
    """A fresh one knows none, though putting a database back sets those that were used."""
    (project / "schema.sql").write_text("CREATE SEQUENCE used; SELECT nextval('used');")
    with elefast.from_config(project, env=env, engine__driver=driver, pool={"size": 1}) as stack:
        for _ in range(4):
            lent = next_one(stack)
            with lent.sync.engine.connect() as connection:
                with pytest.raises(DBAPIError, match="currval of sequence"):
                    connection.execute(text("select currval('used')"))
                connection.rollback()
                assert connection.scalar(text("select nextval('used')")) == 2
            lent.release()
        assert came_back(stack) > 2


@pytest.mark.parametrize(
    "arguments", [{"autocommit": True}, {"prepare_threshold": 0}, {"prepare_threshold": 3}, {"prepare_threshold": None}]
)
def test_it_is_as_connect_args_say(project: Path, env: dict[str, str], arguments: dict[str, Any]) -> None:
    """Also where its database was reset over this connection, which gets its settings back in any case."""
    with elefast.from_config(project, env=env, engine={"connect_args": arguments}, pool={"size": 1}) as stack:
        for _ in range(3):
            lent = next_one(stack)
            with lent.sync.engine.connect() as connection:
                driver: Any = connection.connection.driver_connection
                assert {name: getattr(driver, name) for name in arguments} == arguments
                assert connection.scalar(text("select count(*) from pg_prepared_statements where not from_sql")) in (
                    0,
                    1,
                )
            lent.release()
        assert came_back(stack) > 2


def test_it_is_as_the_environment_says(
    project: Path, env: dict[str, str], on_it: OnIt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that sets variables of libpq's has them, and none has those that another one had meanwhile."""
    with elefast.from_config(project, env=env, engine={"driver": "psycopg"}, pool={"size": 1}) as stack:
        lent = next_one(stack)
        monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=4711")
        with lent.sync.engine.connect() as connection:
            assert connection.scalar(text("show statement_timeout")) == "4711ms"
        lent.release()
        until_connected(stack)
        monkeypatch.delenv("PGOPTIONS")
        lent = stack.checkout()
        with lent.sync.engine.connect() as connection:
            assert connection.scalar(text("show statement_timeout")) == "0"
        lent.release()


def test_what_a_dialect_was_told_counts_for_what_it_compiles(project: Path, env: dict[str, str]) -> None:
    """Where a test has changed what its dialect asks for, text is written as that wants it, in each of its engines."""
    query = select(literal("a\\nb", String, literal_execute=True))
    with elefast.from_config(project, env=env, pool={"size": 0}) as stack:
        first, second = stack.checkout(), stack.checkout()
        with first.sync.engine.connect() as connection:
            assert connection.scalar(query) == "a\\nb"
        with first.sync.engine.connect() as connection:
            connection.execute(text(f'alter database "{second.name}" set standard_conforming_strings = off'))
            connection.commit()
        for _ in range(3):
            engine = stack.service.engine(second.name)
            with engine.connect() as connection:
                assert connection.scalar(query) == "a\\nb"
            engine.dispose()
        first.release()
        second.release()


def test_a_thread_that_cannot_be_started(
    project: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At a limit of processes the pool does without, and starts it later."""
    start = Thread.start

    def refuse(thread: Thread) -> None:
        if thread.name == "elefast-pool":
            raise RuntimeError("can't start new thread")
        start(thread)

    with elefast.from_config(project, env=env, pool={"size": 1, "max": 3}) as stack:
        with caplog.at_level(logging.INFO, "elefast"), monkeypatch.context() as patch:
            patch.setattr(Thread, "start", refuse)
            for _ in range(8):
                stack.checkout().release()
        assert "the pool has 0 threads: can't start new thread" in caplog.text
        pool = stack.service.pool
        assert pool.state().threads == 0
        stack.checkout().release()
        assert pool.state().threads == 2


# What a test may do over a connection of its own before its engine connects, and what tells of it in a new session.
CHANGES = {
    "a setting of the database": ("alter database {name} set work_mem = '1234kB'", "show work_mem", "1234kB"),
    "a setting of the role": ("alter role {role} set work_mem = '1234kB'", "show work_mem", "1234kB"),
    "a setting of both": ("alter role {role} in database {name} set work_mem = '1234kB'", "show work_mem", "1234kB"),
    "what sessions begin with": (
        "alter database {name} set session_preload_libraries = 'auto_explain'",
        "show auto_explain.log_min_duration",
        "-1",
    ),
    "ended sessions": (
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{plain}'",
        "select 'alive'",
        "alive",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_for_new_sessions_is_seen(
    any_stack: elefast.Stack, on_it: OnIt, ask: Callable[..., list[Any]], what: str
) -> None:
    """The engine has a session as new as one that it would open now, and the pool goes on."""
    statement, query, expected = CHANGES[what]
    lent = next_one(any_stack)
    (open_already,) = on_it(lent)
    role = ask("select quote_ident(current_user)")[0]
    try:
        with psycopg.connect(dsn(any_stack.url), autocommit=True) as own:
            own.execute(statement.format(name=f'"{lent.name}"', plain=lent.name, role=role).encode())
        with lent.sync.engine.connect() as connection:
            assert connection.scalar(text(query)) == expected
            assert connection.scalar(text("select pg_backend_pid()")) != open_already
        lent.release()
    finally:
        with psycopg.connect(dsn(any_stack.url), autocommit=True) as own:
            own.execute(f"alter role {role} reset work_mem".encode())
    lent = next_one(any_stack)
    (open_already,) = on_it(lent)
    assert pid(lent.sync.engine) == open_already
    lent.release()


def test_a_database_that_lets_nobody_in_any_more(any_stack: elefast.Stack) -> None:
    """The engine is refused, as without a connection that was open before."""
    lent = next_one(any_stack)
    with psycopg.connect(dsn(any_stack.url), autocommit=True) as own:
        own.execute(f'alter database "{lent.name}" allow_connections false'.encode())
    with pytest.raises(DBAPIError, match="not currently accepting connections"):
        lent.sync.engine.connect()
    lent.release()


ASKS: dict[str, Callable[[DatabaseCheckout], object]] = {
    "url": lambda lent: lent.sync.url,
    "dsn": lambda lent: lent.sync.dsn,
    "name": lambda lent: lent.sync.name,
    "name of the async view": lambda lent: lent.async_.name,
}


@pytest.mark.parametrize("what", ASKS)
def test_who_may_connect_by_itself_is_alone(any_stack: elefast.Stack, on_it: OnIt, what: str) -> None:
    """A database whose address a test asks for has no other session, so it can be copied, renamed and counted on."""
    lent = next_one(any_stack)
    assert len(on_it(lent)) == 1
    assert lent.name in repr(lent.sync)
    assert len(on_it(lent)) == 1
    ASKS[what](lent)
    assert on_it(lent) == []
    assert pid(lent.sync.engine)
    lent.release()


def test_an_address_costs_nothing_once_the_engine_has_connected(any_stack: elefast.Stack, on_it: OnIt) -> None:
    """What the engine has taken is the test's."""
    lent = next_one(any_stack)
    (open_already,) = on_it(lent)
    assert pid(lent.sync.engine) == open_already
    assert lent.sync.url.database == lent.sync.name == lent.name
    assert pid(lent.sync.engine) == open_already
    lent.release()


def test_a_server_gives_an_async_database_without_others(stack: elefast.Stack, on_it: OnIt) -> None:
    """The one that comes next may be connected to for a sync engine."""
    lent = next_one(stack)
    assert pid(lent.sync.engine)  # what no test uses is not connected to ahead any more
    lent.release()
    until_connected(stack)
    database = asyncio.run(stack.async_server.create_database())
    assert database.engine.url.database
    lent = DatabaseCheckout(stack.service, stack.server, lambda: stack.async_server, database.engine.url.database, "")
    assert on_it(lent) == []
    lent.release()

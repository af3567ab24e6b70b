"""When a database does not come back, whatever was done to it, and who finds it if it does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, make_url

import elefast
from elefast.config.overrides import PoolTable
from elefast.databases import resetter
from elefast.postgres import databases
from elefast.postgres.names import Name
from elefast.postgres.sql import scalar
from elefast.postgres.urls import dsn
from tests.integration.resets.conftest import SCHEMA, Bench


def insert(connection: psycopg.Connection) -> None:
    """Do what a database comes back from."""
    connection.execute("INSERT INTO person (name) VALUES ('Ada')")


def read(connection: psycopg.Connection) -> None:
    """Write nothing, but use a sequence."""
    connection.execute("SELECT nextval('used') FROM country")


def test_nobody_finds_it_under_the_old_name(bench: Bench) -> None:
    """What a test has left running, and connects later, finds no database."""
    old: list[str] = []

    def remember(connection: psycopg.Connection) -> None:
        old.append(connection.info.dsn + f" password={connection.info.password}")
        insert(connection)

    assert bench.use(remember)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(old[0])
    assert bench.use(insert)


def test_a_writer_that_comes_late_writes_nowhere(bench: Bench) -> None:
    """A thread that tries to write all the time, by the URL that it has, never gets into the next test's database."""
    over = threading.Event()
    written: list[str] = []

    def write(url: str) -> None:
        while not over.is_set():
            try:
                with psycopg.connect(url) as connection:
                    connection.execute("INSERT INTO audit VALUES ('late')")
                    written.append(connection.info.dbname)
            except psycopg.Error:
                pass

    threads: list[threading.Thread] = []

    def start(connection: psycopg.Connection) -> None:
        url = connection.info.dsn + f" password={connection.info.password}"
        threads.append(threading.Thread(target=write, args=(url,)))
        threads[-1].start()
        insert(connection)

    try:
        for _ in range(5):
            bench.use(start)
        bench.use(lambda connection: None)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert written
    bench.stack.service.take_leaks()  # of those that were connected at the wrong moment


@pytest.mark.fault("somebody who comes late", how="CREATE TABLE and gone, right before the database is renamed")
def test_who_comes_between_the_look_and_the_rename(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is just being made is in no list of sessions and in no count, and RENAME waits for it."""
    rename = databases.rename
    old: list[str] = []

    def late(connection: Connection, name: str, new: Name) -> None:
        with psycopg.connect(old[0], autocommit=True) as other:
            other.execute("CREATE TABLE late ()")
        rename(connection, name, new)

    def remember(connection: psycopg.Connection) -> None:
        old.append(dsn_of(connection))
        insert(connection)

    with monkeypatch.context() as patch:
        patch.setattr(databases, "rename", late)
        assert not bench.use(remember)
    assert bench.use(insert)


def test_two_at_once_are_each_put_back_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the pool's threads is led to the database that it sees to, whatever the other one does meanwhile."""
    assert bench.use(insert)
    assert bench.stack.service
    restorer = bench.stack.service.pool._resetter
    assert restorer
    both = threading.Barrier(2)
    seen: dict[str, object] = {}

    def late(make: Callable[..., Engine], name: str, settings: str) -> Engine:
        both.wait(60)
        return make(name, settings=settings)

    def look(name: str) -> None:
        with restorer._connection_to(name, None) as (connection, _):
            seen[name] = scalar(connection, "select current_database()")

    monkeypatch.setattr(restorer, "_engine", partial(late, restorer._engine))
    names = [bench.stack.service.checkout("by_hand", "utf8") for _ in range(2)]
    threads = [threading.Thread(target=look, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: name for name in names}
    for name in names:
        bench.stack.service.release(name, wait=True)


def test_a_partitioned_table_was_analysed(bench: Bench) -> None:
    """That changes what the planner knows of it, and PostgreSQL 18 can do it without its partitions."""

    def analyse(connection: psycopg.Connection) -> None:
        connection.execute(f"ANALYZE {'ONLY ' if connection.info.server_version >= 180000 else ''}event".encode())

    assert bench.use(insert)
    assert not bench.use(analyse)
    assert bench.use(insert)


def test_after_a_crash_nothing_is_known(bench: Bench) -> None:
    """A crash takes PostgreSQL's counts with it, so no database that was there before comes back."""

    def crash(connection: psycopg.Connection) -> None:
        insert(connection)
        connection.commit()
        with psycopg.connect(connection.info.dsn, password=connection.info.password) as other:
            os.kill(other.info.backend_pid, 9)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT pg_sleep(60)")

    assert bench.use(insert)
    assert not bench.use(crash)
    bench.use(insert)
    assert bench.use(insert)


def test_it_goes_in_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing adds up over a run of thousands of tests: after some uses a database is replaced."""
    monkeypatch.setattr(resetter, "MOST_RESETS", 2)
    assert [bench.use(insert) for _ in range(6)].count(False) >= 2


def test_a_leaked_connection(bench: Bench) -> None:
    """A database with a session that had to be ended goes, and the test is named."""
    left: list[psycopg.Connection] = []
    assert not bench.use(lambda connection: left.append(psycopg.connect(dsn_of(connection))))
    assert [leak.test for leak in bench.stack.service.take_leaks()] == ["a test"]
    left[0].close()
    assert bench.use(insert)


def test_what_is_gone_is_forgotten(bench: Bench) -> None:
    """Of a database that was dropped without a try to put it back nothing is remembered, however many there are."""
    for _ in range(5):
        left: list[psycopg.Connection] = []
        bench.use(lambda connection, left=left: left.append(psycopg.connect(dsn_of(connection))))  # type: ignore[misc]
        left[0].close()
    bench.stack.service.take_leaks()
    assert bench.stack.service
    pool = bench.stack.service.pool
    assert pool._resetter
    assert pool._resetter._known.keys() == set(pool.state().idle)


def dsn_of(connection: psycopg.Connection) -> str:
    """What leads to the same database, with the password."""
    return connection.info.dsn + f" password={connection.info.password}"


@pytest.fixture
def modest(server_url: str) -> Iterator[str]:
    """The URL of a role that may create databases, and no more."""
    url = make_url(server_url)
    with psycopg.connect(dsn(url), autocommit=True) as connection:
        connection.execute("CREATE ROLE modest LOGIN CREATEDB PASSWORD 'modest'")
        yield url.set(username="modest", password="modest").render_as_string(hide_password=False)
        for (name,) in connection.execute(
            "SELECT quote_ident(datname) FROM pg_database WHERE datdba = 'modest'::regrole"
        ).fetchall():
            connection.execute(f"ALTER DATABASE {name} IS_TEMPLATE false".encode())
            connection.execute(f"DROP DATABASE {name}".encode())
        connection.execute("DROP ROLE modest")


def test_an_ordinary_role(tmp_path: Path, modest: str) -> None:
    """Without superuser rights a database comes back whose tables were only read, and no other."""
    (tmp_path / "schema.sql").write_text(SCHEMA.replace("UNLOGGED", ""), "utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.elefast]\nsql.files = ["schema.sql"]\npool.size = 1\n')
    with elefast.from_config(tmp_path, env={**os.environ, "ELEFAST_ENGINE__URL": modest}) as stack:
        bench = Bench(stack)
        assert bench.use(read)
        assert not bench.use(insert)
        assert bench.use(read)


@pytest.mark.parametrize("pool", [{"reuse": False}, {"size": 0}], ids=["reuse", "size"])
def test_it_can_be_turned_off(tmp_path: Path, server_url: str, pool: PoolTable) -> None:
    """With `pool.reuse = false` each test has a new copy; and without a pool there is nowhere to put one."""
    (tmp_path / "schema.sql").write_text(SCHEMA, "utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.elefast]\nsql.files = ["schema.sql"]\n')
    env = {**os.environ, "ELEFAST_ENGINE__URL": server_url}
    with elefast.from_config(tmp_path, env=env, pool=pool) as stack:
        for _ in range(4):
            stack.checkout().release()
        stack.close()
        assert len(stack.report().restore) == 0
        assert stack.report().databases == 4


def test_several_at_once(tmp_path: Path, server_url: str) -> None:
    """With more of them in use than the pool keeps, all come back, and the pool gets no larger for it."""
    (tmp_path / "schema.sql").write_text(SCHEMA, "utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.elefast]\nsql.files = ["schema.sql"]\npool.size = 2\n')
    with elefast.from_config(tmp_path, env={**os.environ, "ELEFAST_ENGINE__URL": server_url}) as stack:
        bench = Bench(stack)
        for _ in range(3):
            lent = [stack.checkout() for _ in range(6)]
            assert len({one.name for one in lent}) == 6
            for one in lent:
                with psycopg.connect(one.dsn) as connection:
                    insert(connection)
                one.release()
            bench.settle()
            assert (
                len(stack.service.pool.state().idle) <= 2 + 2
            )  # one for the test that had it, one made when none came
        assert len(stack.report().restore) > 3

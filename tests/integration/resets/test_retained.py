"""A session that outlives the tests that use it: what it must not carry from one test to the next."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

import elefast
from elefast.databases import resetter
from elefast.isolation.database import DatabaseCheckout
from tests.integration.resets.conftest import Bench, opened
from tests.integration.resets.test_restore import COMES_BACK, GOES
from tests.robustness.faults.proxy import Proxy

STATE = """
SELECT 'setting ' || name, setting FROM pg_settings WHERE name <> 'application_name' AND name NOT LIKE 'plpgsql.%'
UNION ALL SELECT 'user', session_user || ' ' || current_user
UNION ALL SELECT 'prepared ' || name, statement FROM pg_prepared_statements
UNION ALL SELECT 'cursor ' || name, statement FROM pg_cursors
UNION ALL SELECT 'channel', pg_listening_channels()
UNION ALL SELECT 'lock ' || locktype, concat_ws(' ', classid, objid) FROM pg_locks
          WHERE pid = pg_backend_pid() AND locktype IN ('advisory', 'object', 'transactionid')
UNION ALL SELECT 'temporary', relname::text FROM pg_class WHERE relpersistence = 't'
UNION ALL SELECT 'tenant', coalesce(current_setting('app.tenant', true), 'NULL')
UNION ALL SELECT 'origin', pg_replication_origin_session_is_setup()::text
UNION ALL SELECT 'application', current_setting('application_name')
"""
"""Everything that a test can ask about its session and that could stay from an earlier one.

A retained session has loaded the libraries of the template at its beginning, so PL/pgSQL's settings are there already.
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Iterator[Bench]:
    """A bench on a server whose sessions can outlive tests."""
    with psycopg.connect(server_url.replace("+psycopg", "")) as connection:
        if connection.info.server_version < 160000:
            pytest.skip("before PostgreSQL 16 nothing shows that a session is as new")
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("retained"), server_url) as bench:
        patch.setattr(resetter, "MOST_RESETS", 10_000)  # no test here begins with a new copy by chance
        yield bench


def run(bench: Bench, work: Callable[[psycopg.Connection], object]) -> int:
    """Do something over the connection that elefast has opened for a test, in autocommit mode; its backend."""
    lent = bench.stack.checkout("a test")
    pid = _work(lent, work)
    lent.release()
    bench.settle()
    return pid


def _work(lent: DatabaseCheckout, work: Callable[[psycopg.Connection], object]) -> int:
    with lent.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        pid = driver.info.backend_pid
        with suppress(psycopg.Error):
            work(driver)
    return pid


def sql(statements: str) -> Callable[[psycopg.Connection], object]:
    """Send `statements` in one message."""
    return lambda connection: connection.execute(statements.encode())


def state_of(bench: Bench) -> dict[str, str]:
    """What the next test finds in its session."""
    found: dict[str, str] = {}
    run(bench, lambda connection: found.update(connection.execute(STATE).fetchall()))
    return found


NOTHING = sql("SELECT 1")
INSERT = sql("INSERT INTO person (name) VALUES ('A')")


def test_a_session_serves_one_test_after_another(bench: Bench) -> None:
    """Each with another database name and a new connection object, over one backend."""
    run(bench, INSERT)
    seen: list[tuple[int, str, int]] = []

    def work(connection: psycopg.Connection) -> None:
        (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        assert connection.info.dbname == name == connection.info.get_parameters()["dbname"]
        assert f"dbname={name}" in connection.info.dsn
        assert name in repr(connection)
        assert connection.execute("SELECT count(*) FROM person").fetchone() == (0,)
        connection.execute("INSERT INTO person (name) VALUES ('A')")
        seen.append((connection.info.backend_pid, name, id(connection)))

    for _ in range(4):
        run(bench, work)
    assert len({pid for pid, _, _ in seen}) == 1
    assert len({name for _, name, _ in seen}) == 4


UNDONE = {
    "settings": "SET work_mem = '1MB'; SET timezone = 'Asia/Tokyo'; SET search_path = nowhere; SET ROLE pg_monitor",
    "settings in a transaction": "BEGIN; SET LOCAL work_mem = '1MB'; SET datestyle = 'German'",
    "application_name": "SET application_name = 'somebody else'",
    "read only": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
    "client encoding": "SET client_encoding = latin1",
    "another user": "SET SESSION AUTHORIZATION pg_monitor",
    "prepared": "PREPARE one AS SELECT 1",
    "cursor": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "channels": "LISTEN c; NOTIFY c, 'left'",
    "advisory lock": "SELECT pg_advisory_lock(7), pg_advisory_lock_shared(8)",
    "open transaction": "BEGIN; INSERT INTO person (name) VALUES ('A')",
    "failed transaction": "BEGIN; SELECT 1/0",
    "table lock": "BEGIN; LOCK TABLE person IN ACCESS EXCLUSIVE MODE",
    "replica": "SET session_replication_role = replica",
}
"""What the session survives."""

CLOSED = {
    "custom setting": "SET app.tenant = '7'",
    "custom setting in a transaction": "BEGIN; SELECT set_config('app.tenant', '7', true); COMMIT",
    "custom setting rolled back": "BEGIN; SELECT set_config('app.tenant', '7', true); ROLLBACK",
    "library": "LOAD 'auto_explain'",
    "replication origin": "SELECT pg_replication_origin_create('theirs') WHERE NOT EXISTS "
    "(SELECT FROM pg_replication_origin WHERE roname = 'theirs'); SELECT pg_replication_origin_session_setup('theirs')",
    "large query": "DO $$ BEGIN PERFORM set_config('app.tenant', 'x', false); END $$",
    "ended": "SELECT pg_terminate_backend(pg_backend_pid())",
}
"""What the session does not survive, because a test could see it afterwards."""


@pytest.mark.parametrize("name", UNDONE)
def test_what_is_undone_in_a_session(bench: Bench, name: str) -> None:
    """The next test has the same session, which looks new to it."""
    run(bench, NOTHING)
    before = state_of(bench)
    pid = run(bench, sql(UNDONE[name]))
    assert state_of(bench) == before
    assert run(bench, NOTHING) == pid


@pytest.mark.parametrize("name", CLOSED)
def test_what_closes_a_session(bench: Bench, name: str) -> None:
    """The next test has another session."""
    run(bench, NOTHING)
    before = state_of(bench)
    pid = run(bench, sql(CLOSED[name]))
    assert state_of(bench) == before
    assert run(bench, NOTHING) != pid


def test_random_numbers_do_not_repeat(bench: Bench) -> None:
    """setseed() of one test does not decide the random numbers of the next."""
    drawn: list[float] = []
    for _ in range(3):
        run(bench, sql("SELECT setseed(0.5), random()"))
        run(bench, lambda connection: drawn.append((connection.execute("SELECT random()").fetchone() or (0,))[0]))
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("name", COMES_BACK)
def test_what_is_undone_in_a_database(bench: Bench, name: str) -> None:
    """The same as without a retained session."""
    run(bench, NOTHING)
    before = len(bench.stack.report().restore)
    run(bench, sql(COMES_BACK[name]))
    assert len(bench.stack.report().restore) > before
    assert bench.use(lambda connection: None)  # compares the database with a new copy


@pytest.mark.parametrize("name", GOES)
def test_what_is_not_undone_in_a_database(bench: Bench, name: str) -> None:
    """The same as without a retained session."""
    run(bench, NOTHING)
    before = len(bench.stack.report().restore)
    run(bench, sql(GOES[name]))
    assert len(bench.stack.report().restore) == before
    assert bench.use(lambda connection: None)


# -- what a test keeps of its connection -------------------------------------------------------------------


def test_a_closed_connection_is_closed(bench: Bench) -> None:
    """Neither it nor what was made from it reaches the session that the next test has."""
    kept: list[psycopg.Connection] = []
    run(bench, kept.append)
    kept[0].cancel()
    assert kept[0].closed
    with pytest.raises(psycopg.OperationalError, match="closed"):
        kept[0].execute("SELECT 1")
    assert kept[0].pgconn.status == pq.ConnStatus.BAD


KEPT: dict[str, Callable[[psycopg.Connection], object]] = {
    "a cursor": lambda connection: connection.execute("SELECT 1"),
    "libpq's connection": lambda connection: connection.pgconn,
}


@pytest.mark.parametrize("name", KEPT)
def test_what_could_still_use_the_session(bench: Bench, name: str) -> None:
    """The session is closed where an object of the test refers to it, so that the object cannot reach the next test."""
    kept: list[object] = []
    run(bench, NOTHING)
    pid = run(bench, lambda connection: kept.append(KEPT[name](connection)))
    assert run(bench, NOTHING) != pid
    kept.clear()


def test_a_forked_child_could_use_the_session(bench: Bench) -> None:
    """It has a copy of the socket, so the session is closed after the test."""

    def fork(connection: psycopg.Connection) -> None:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

    run(bench, NOTHING)
    pid = run(bench, fork)
    assert run(bench, NOTHING) != pid


STATES: dict[str, Callable[[psycopg.Connection], object]] = {
    "a statement that runs": lambda connection: connection.pgconn.send_query(b"SELECT pg_sleep(60)"),
    "a copy": lambda connection: connection.pgconn.exec_(b"COPY person FROM STDIN"),
    "a pipeline": lambda connection: connection.pgconn.enter_pipeline_mode(),
    "half a result": lambda connection: connection.pgconn.send_query(b"SELECT 1; SELECT 2"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_session_in_the_middle_of_something_is_closed(bench: Bench, name: str) -> None:
    """libpq cannot say what the server would answer next."""
    run(bench, NOTHING)
    lent = bench.stack.checkout("a test")
    connection = lent.engine.raw_connection()
    driver = connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    pid = driver.info.backend_pid
    STATES[name](driver)
    lent.release()
    bench.settle()
    assert bench.stack.service.take_leaks()
    assert run(bench, NOTHING) != pid
    driver.close()
    connection.detach()


def test_a_connection_that_is_left_open_is_a_leak(bench: Bench) -> None:
    """It is reported and ended, and the session is not used again."""
    run(bench, NOTHING)
    bench.stack.service.take_leaks()
    lent = bench.stack.checkout("leaky")
    connection = lent.engine.connect()
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    lent.release()
    bench.settle()
    assert [leak.test for leak in bench.stack.service.take_leaks()] == ["leaky"]
    assert run(bench, NOTHING) != pid
    with suppress(Exception):
        connection.close()


CLIENT: dict[str, Callable[[psycopg.Connection], object]] = {
    "row_factory": lambda connection: setattr(connection, "row_factory", psycopg.rows.dict_row),
    "prepare_threshold": lambda connection: setattr(connection, "prepare_threshold", 0),
    "isolation_level": lambda connection: setattr(connection, "isolation_level", psycopg.IsolationLevel.SERIALIZABLE),
    "handlers": lambda connection: connection.add_notice_handler(print),
    "prepared": lambda connection: [connection.execute("SELECT 1", prepare=True) for _ in range(3)],
    "adapter": lambda connection: connection.adapters.register_loader("int4", psycopg.types.string.TextLoader),
}


@pytest.mark.parametrize("name", CLIENT)
def test_the_clients_side_is_new(bench: Bench, name: str) -> None:
    """psycopg keeps its own state in the connection object, of which each test has another one."""
    found: list[object] = []

    def look(connection: psycopg.Connection) -> None:
        found.append(
            (
                connection.row_factory,
                connection.prepare_threshold,
                connection.isolation_level,
                connection._notice_handlers,  # pyright: ignore[reportPrivateUsage]  # psycopg lists them nowhere else
                connection.execute("SELECT 7").fetchone(),
            )
        )

    run(bench, look)
    pid = run(bench, CLIENT[name])
    run(bench, look)
    assert found[0] == found[1]
    assert run(bench, NOTHING) == pid


# -- other clients ------------------------------------------------------------------------------------------


def test_a_late_client_finds_no_database(bench: Bench) -> None:
    """The name is another one after each test, also with a retained session."""
    lent = bench.stack.checkout("a test")
    _work(lent, INSERT)
    address = lent.dsn
    lent.release()
    bench.settle()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(address)


def test_the_engine_of_an_earlier_test_finds_no_database(bench: Bench) -> None:
    """Whether it has had the session or not, and while the next test has it."""
    engines: list[Engine] = []
    for used in (True, False):
        run(bench, INSERT)
        lent = bench.stack.checkout("a test")
        engines.append(lent.engine)
        if used:
            _work(lent, INSERT)
        lent.release()
        bench.settle()
        with pytest.raises(OperationalError, match="does not exist"):
            engines[-1].connect()
    following = bench.stack.checkout("the next test")
    _work(following, NOTHING)
    for engine in engines:
        with pytest.raises(OperationalError, match="does not exist"):
            engine.connect()
    following.release()
    bench.settle()
    assert bench.use(lambda connection: None)


def test_clients_that_connect_while_a_database_is_reset(bench: Bench) -> None:
    """Each gets into the database of its test or gets an error; what it writes is in no other test's database."""
    addresses: list[str] = []
    stopped = threading.Event()
    inside: list[str] = []

    def intrude() -> None:
        while not stopped.is_set():
            if not addresses:
                continue
            name = addresses[-1]
            with suppress(psycopg.Error), psycopg.connect(name, autocommit=True, connect_timeout=5) as connection:
                connection.execute("INSERT INTO person (name) VALUES ('intruder')")
                inside.append(name)

    threads = [threading.Thread(target=intrude) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(ROUNDS):
            lent = bench.stack.checkout(f"test {number}")
            # Not by the name, which would close the connection that was opened in advance.
            with lent.engine.connect() as connection:
                assert connection.execute(text("SELECT count(*) FROM person WHERE name <> 'intruder'")).scalar() == 0
                if not addresses or lent.dsn != addresses[-1]:
                    # Nobody knew the name before now.
                    assert connection.execute(text("SELECT count(*) FROM person")).scalar() == 0
                addresses.append(lent.dsn)
                connection.execute(text("INSERT INTO person (name) VALUES ('A')"))
                connection.commit()
            lent.release()
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    bench.stack.service.take_leaks()
    bench.settle()
    assert inside
    assert bench.use(lambda connection: None) or bench.use(lambda connection: None)


ROUNDS = int(os.environ.get("TEST_INTRUSION_ROUNDS", "60"))


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_client_in_the_middle_of_connecting(bench: Bench, side: str) -> None:
    """Its request, or the server's first answer, is held up until the database has another name: it finds none."""
    run(bench, INSERT)
    lent = bench.stack.checkout("a test")
    _work(lent, INSERT)
    url = lent.url
    errors: list[str] = []
    with Proxy(url.port or 5432) as proxy:
        address = url.set(drivername="postgresql", host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})

        def connect() -> None:
            try:
                psycopg.connect(address.render_as_string(hide_password=False)).close()
            except psycopg.Error as error:
                errors.append(str(error))

        proxy.hold(side)
        client = threading.Thread(target=connect)
        client.start()
        assert proxy.held.wait(60)
        lent.release()
        bench.settle()
        proxy.let_go()
        client.join()
    assert len(errors) == 1
    assert "does not exist" in errors[0]
    assert bench.use(lambda connection: None)


def test_many_uses_of_a_session_take_no_more_memory(bench: Bench) -> None:
    """The backend keeps caches of fixed size; a session ends with its database after some resets."""
    sizes: dict[int, list[int]] = {}

    def work(connection: psycopg.Connection) -> None:
        connection.execute("INSERT INTO person (name) VALUES ('A')")
        connection.execute("SELECT jsonb_agg(p) FROM person p")
        query = "SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts"
        (size,) = connection.execute(query).fetchone() or (0,)
        sizes.setdefault(connection.info.backend_pid, []).append(int(size))

    for _ in range(120):
        run(bench, work)
    longest = max(sizes.values(), key=len)
    assert len(longest) > 20
    assert longest[-1] < 1.5 * longest[10]


def test_a_role_that_is_no_superuser_has_a_session_for_each_test(tmp_path: Path, server_url: str) -> None:
    """It cannot rename the database under its session."""
    admin = psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True)
    with admin:
        admin.execute("DROP ROLE IF EXISTS plain_owner")
        admin.execute("CREATE ROLE plain_owner LOGIN CREATEDB PASSWORD 'x'")
        schema = "CREATE TABLE person (name text);"
        url = elefast.DatabaseServer(server_url).url.set(username="plain_owner", password="x")
        with opened(
            tmp_path, url.render_as_string(hide_password=False), schema=schema, keys="template.cache = false"
        ) as own:
            pids = [run(own, NOTHING) for _ in range(3)]
        assert len(set(pids)) == 3
        admin.execute("DROP ROLE plain_owner")


# -- psycopg's async half -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def async_bench(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Iterator[Bench]:
    """A bench whose async engines use psycopg."""
    with psycopg.connect(server_url.replace("+psycopg", "")) as connection:
        if connection.info.server_version < 160000:
            pytest.skip("before PostgreSQL 16 nothing shows that a session is as new")
    directory = tmp_path_factory.mktemp("retained_async")
    with opened(directory, server_url, keys='engine.async_driver = "psycopg"') as bench:
        yield bench


def run_async(bench: Bench, work: Callable[[AsyncConnection], Awaitable[object]], connections: int = 2) -> list[int]:
    """Do something over each of several connections of one test, one after the other; their backends."""
    lent = bench.stack.checkout("an async test")

    async def test() -> list[int]:
        pids: list[int] = []
        engine = lent.async_engine
        for _ in range(connections):
            async with engine.connect() as connection:
                pids.append((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())
                await work(connection)
        await engine.dispose()
        return pids

    pids = asyncio.run(test())
    lent.release()
    bench.settle()
    return pids


async def insert_async(connection: AsyncConnection) -> None:
    """Commit a row."""
    await connection.execute(text("INSERT INTO person (name) VALUES (gen_random_uuid()::text)"))
    await connection.commit()


def test_async_tests_have_one_session_after_the_other(async_bench: Bench) -> None:
    """In a loop each; also the connections of one test, of which each transaction opens one."""
    found: list[object] = []

    async def work(connection: AsyncConnection) -> None:
        found.append((await connection.execute(text("SELECT count(*) FROM person"))).scalar())
        await insert_async(connection)

    for _ in range(3):
        run_async(async_bench, work)
    found.clear()
    pids = [pid for _ in range(3) for pid in run_async(async_bench, work)]
    assert len(set(pids)) == 1
    assert found == [0, 1] * 3
    assert async_bench.use(lambda connection: None)


@pytest.mark.parametrize("name", [*UNDONE, *CLOSED])
def test_an_async_session_is_as_new(async_bench: Bench, name: str) -> None:
    """For the next connection of the same test as for the next test."""
    states: list[dict[str, str]] = []

    async def look(connection: AsyncConnection) -> None:
        found = (await connection.execute(text(STATE.replace(":", r"\:")))).all()
        states.append({str(row[0]): str(row[1]) for row in found if "plpgsql" not in row[0]})

    async def work(connection: AsyncConnection) -> None:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        await connection.rollback()
        await driver.set_autocommit(True)
        with suppress(psycopg.Error):
            await driver.execute({**UNDONE, **CLOSED}[name].encode())

    for _ in range(2):
        run_async(async_bench, look, 1)
    states.clear()
    run_async(async_bench, look, 1)
    lent = async_bench.stack.checkout("an async test")

    async def test() -> None:
        for step in (work, look):
            with suppress(Exception):  # the session may have ended
                async with lent.async_engine.connect() as connection:
                    await step(connection)

    asyncio.run(test())
    lent.release()
    async_bench.settle()
    run_async(async_bench, look, 1)
    assert len(states) == 3
    assert states[0] == states[1] == states[2]


def test_async_connections_at_once(async_bench: Bench) -> None:
    """Only one of them can have the session."""
    lent = async_bench.stack.checkout("an async test")

    async def test() -> set[int]:
        engine = lent.async_engine
        async with engine.connect() as one, engine.connect() as two:
            question = text("SELECT pg_backend_pid()")
            pids = {(await one.execute(question)).scalar_one(), (await two.execute(question)).scalar_one()}
        await engine.dispose()
        return pids

    assert len(asyncio.run(test())) == 2
    lent.release()
    async_bench.settle()
    assert async_bench.use(lambda connection: None)


def test_the_async_engine_of_an_earlier_test_finds_no_database(async_bench: Bench) -> None:
    """Although it has had the session of the test that comes next."""
    run_async(async_bench, insert_async)
    engines: list[AsyncEngine] = []

    async def test(lent: DatabaseCheckout) -> None:
        engines.append(lent.async_engine)
        async with lent.async_engine.connect() as connection:
            await insert_async(connection)

    async def late(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await connection.execute(text("DELETE FROM person"))

    lent = async_bench.stack.checkout("an async test")
    asyncio.run(test(lent))
    lent.release()
    async_bench.settle()
    with pytest.raises(OperationalError, match="does not exist"):
        asyncio.run(late(engines[0]))
    lent = async_bench.stack.checkout("the next test")
    asyncio.run(test(lent))
    with pytest.raises(OperationalError, match="does not exist"):
        asyncio.run(late(engines[0]))
    lent.release()
    async_bench.settle()


def test_both_views_of_one_database(async_bench: Bench) -> None:
    """The first one that connects has the session."""
    for _ in range(3):
        lent = async_bench.stack.checkout("a test")
        with lent.engine.connect() as connection:
            connection.execute(text("INSERT INTO person (name) VALUES ('sync')"))
            connection.commit()

        async def test(lent: DatabaseCheckout = lent) -> object:
            async with lent.async_engine.connect() as connection:
                return (await connection.execute(text("SELECT name FROM person"))).scalar_one()

        assert asyncio.run(test()) == "sync"
        lent.release()
        async_bench.settle()


def test_an_async_connection_that_is_left_open_is_a_leak(async_bench: Bench) -> None:
    """It is named and ended, and the session is not used again."""
    run_async(async_bench, insert_async)
    async_bench.stack.service.take_leaks()
    lent = async_bench.stack.checkout("leaky")
    kept: list[object] = []
    pgconns: list[pq.abc.PGconn] = []

    async def test() -> None:
        connection = await lent.async_engine.connect()
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        raw.detach()
        kept.append(driver)
        pgconns.append(driver.pgconn)

    asyncio.run(test())
    lent.release()
    async_bench.settle()
    assert [leak.test for leak in async_bench.stack.service.take_leaks()] == ["leaky"]
    assert async_bench.use(lambda connection: None)
    pgconns[0].finish()


def test_the_name_closes_the_session_of_an_async_test(async_bench: Bench) -> None:
    """A test that asks for it may count the sessions of its database, or copy it."""
    run_async(async_bench, insert_async)
    lent = async_bench.stack.checkout("an async test")
    name = lent.async_.name
    with psycopg.connect(lent.url_for("postgresql").render_as_string(hide_password=False)) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        assert connection.execute(query, [name]).fetchone() == (1,)
    lent.release()
    async_bench.settle()

"""`isolation = "transaction"` with async drivers, with whatever runs async tests and in whatever loop."""

from __future__ import annotations

import pytest

from .conftest import Project
from .test_transaction import HEAD, configured

BODY = """
{decorator}
async def kept_an_eye_on(async_db_session{arguments}):
    assert await async_db_session.scalar(COUNT) == 0
    async_db_session.add(Item(name="a"))
    await async_db_session.commit()
    yield
    assert await async_db_session.scalar(COUNT) == 2

async def test_commit(kept_an_eye_on, async_db, async_db_session{arguments}):
    async_db_session.add(Item(name="a"))
    with pytest.raises(IntegrityError):
        await async_db_session.commit()
    await async_db_session.rollback()
    async with async_db.sessionmaker.begin() as other:
        other.add(Item(name="b"))
    assert other.bind.dialect.driver == DRIVER

async def test_fails(async_db, async_db_session{arguments}):
    async_db_session.add(Item(name="a"))
    await async_db_session.commit()
    assert False, "on purpose"

async def test_connection(async_db, async_db_session, async_db_connection{arguments}):
    assert await async_db_session.scalar(COUNT) == 0
    async with async_db_connection.begin():
        async with async_db_connection.begin_nested():
            await async_db_connection.execute(text("INSERT INTO item (name) VALUES ('a')"))
    await async_db_connection.execute(text("INSERT INTO item (name) VALUES ('b')"))
    await async_db_connection.rollback()
    assert await async_db_session.scalar(COUNT) == 1
    await async_db.engine.dispose()
    await async_db_session.execute(text("ALTER TABLE item ADD COLUMN price int"))

@pytest.mark.parametrize("n", range(2))
async def test_the_driver_itself(async_db_connection, n{arguments}):
    raw = (await async_db_connection.get_raw_connection()).driver_connection
    await raw.execute("INSERT INTO item (name) VALUES ('a')")
    assert await async_db_connection.scalar(COUNT) == 1

async def test_rows_in_portions(async_db_session{arguments}):
    async_db_session.add_all([Item(name=str(n)) for n in range(30)])
    await async_db_session.commit()
    rows = await async_db_session.stream_scalars(select(Item), execution_options=dict(yield_per=7))
    assert [len(part) async for part in rows.partitions()] == [7, 7, 7, 7, 2]

async def test_nothing(async_db_session, async_db_connection{arguments}): pass
async def test_refused(async_db{arguments}):
    async with async_db.engine.connect(): pass
def test_sync(db_session):
    assert db_session.scalar(COUNT) == 0
"""
STRICT = "\nimport pytest_asyncio\npytestmark = pytest.mark.asyncio{}\n"
ANYIO = "\npytestmark = [pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]\n"


def body(driver: str, decorator: str = "@pytest.fixture", arguments: str = "") -> str:
    """The tests; those of them that are no coroutine functions get no marker that would complain of it."""
    return BODY.format(decorator=decorator, arguments=arguments).replace("DRIVER", repr(driver))


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("scope", ["function", "session"])
def test_pytest_asyncio(project: Project, driver: str, scope: str) -> None:
    """In loops that end with the test and in loops that go on; all warnings are errors."""
    options = f'asyncio_mode = "auto"\nasyncio_default_test_loop_scope = "{scope}"\n'
    configured(project, f'engine.async_driver = "{driver}"\nleaks = "error"', options=options)
    project.tests(HEAD + body(driver, f"import pytest_asyncio\n@pytest_asyncio.fixture(loop_scope='{scope}')"))
    result = project.run()
    result.assert_outcomes(passed=7, failed=2)
    result.stdout.fnmatch_lines(["*AssertionError: on purpose", "*engine.connect() is refused: *"])


def test_pytest_asyncio_in_strict_mode_in_a_loop_of_the_module(project: Project) -> None:
    """Marked, as its documentation has it."""
    configured(project, 'engine.async_driver = "asyncpg"\nleaks = "error"')
    text = (
        HEAD + STRICT.format('(loop_scope="module")') + body("asyncpg", "@pytest_asyncio.fixture(loop_scope='module')")
    )
    # The marker of the module is no business of a test that is no coroutine, says pytest-asyncio.
    passed_over = "@pytest.mark.filterwarnings('ignore:The test .+ is not an async function:pytest.PytestWarning')"
    project.tests(text.replace("def test_sync(", f"{passed_over}\ndef test_sync("))
    project.run().assert_outcomes(passed=7, failed=2)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_anyio(project: Project, driver: str) -> None:
    """Also without pytest-asyncio in the environment."""
    configured(project, f'engine.async_driver = "{driver}"\nleaks = "error"')
    path = project.path / "pyproject.toml"
    path.write_text(path.read_text().replace('asyncio_default_fixture_loop_scope = "function"', ""))
    project.tests(
        HEAD + ANYIO + body(driver, arguments=", anyio_backend").replace("test_sync(", "test_sync(anyio_backend, ")
    )
    project.run("-p", "no:asyncio").assert_outcomes(passed=7, failed=2)


def test_a_sync_test_may_run_one_loop(project: Project) -> None:
    """The transaction lasts as long as the loop; a second one is told why it cannot go on, and nothing is left open."""
    configured(project, 'leaks = "error"')
    project.tests(
        HEAD
        + """
import asyncio
from elefast.errors import RefusedError

async def add(async_db):
    async with async_db.session() as session:
        session.add(Item(name="a"))
        await session.commit()
        return await session.scalar(COUNT)

@pytest.mark.parametrize("n", range(2))
def test_one(async_db, n):
    assert asyncio.run(add(async_db)) == 1

def test_two(async_db):
    assert asyncio.run(add(async_db)) == 1
    with pytest.raises(RefusedError) as refused:
        asyncio.run(add(async_db))
    assert str(refused.value) == (
        'with isolation = "transaction" a test has one connection, and that was opened in another event loop than the '
        "one that it is used in now.\\n"
        "Keep one loop during the test (`with TestClient(app) as client`, or an async test and an async client; "
        "fixtures of the test's own loop scope), or give the test a database of its own: "
        '@pytest.mark.elefast(isolation="database")'
    )
"""
    )
    project.run().assert_outcomes(passed=3)


@pytest.mark.usefixtures("counted_at_once")
@pytest.mark.parametrize("leaks", ["error", "ignore"])
def test_who_comes_after_the_loop_is_noticed(project: Project, leaks: str) -> None:
    """The transaction ended with the loop, and what the test did afterwards must not be the next one's."""
    configured(project, f'leaks = "{leaks}"')
    project.tests(
        HEAD
        + """
import asyncio, psycopg
NAMES = []

async def use(async_db):
    async with async_db.session() as session:
        return await session.scalar(COUNT)

def test_one(async_db):
    assert asyncio.run(use(async_db)) == 0
    NAMES.append(async_db.name)
    with psycopg.connect(async_db.dsn) as outsider:
        outsider.execute("INSERT INTO item (name) VALUES ('b')")

def test_two(db, db_session):
    assert db_session.scalar(COUNT) == 0
    assert db.name not in NAMES
"""
    )
    result = project.run()
    result.assert_outcomes(passed=2, errors=int(leaks == "error"))
    if leaks == "error":
        result.stdout.fnmatch_lines(["test_it.py::test_one was not alone: *: the database was thrown away*"])


def test_listeners_hear_what_they_hear_otherwise(project: Project) -> None:
    """Also those that come after the first statement; and a listener is gone with its test."""
    configured(project, 'leaks = "error"', options='asyncio_mode = "auto"\n')
    project.tests(
        HEAD
        + """
from sqlalchemy import event
HEARD = []
NAMES = ("before_cursor_execute", "do_execute", "handle_error")

async def test_it(async_db, async_db_session):
    assert await async_db_session.scalar(COUNT) == 0
    for name in NAMES:
        def hear(*args, name=name):
            HEARD.append(name)
        event.listen(async_db.engine.sync_engine, name, hear)
    with pytest.raises(IntegrityError):
        await async_db_session.execute(text("INSERT INTO item (name) VALUES (NULL)"))
    assert HEARD == list(NAMES)

@pytest.mark.parametrize("n", range(2))
async def test_next(async_db_session, n):
    with pytest.raises(IntegrityError):
        await async_db_session.execute(text("INSERT INTO item (name) VALUES (NULL)"))
    assert HEARD == list(NAMES)
"""
    )
    project.run().assert_outcomes(passed=3)


def test_two_tasks_at_once_are_refused(project: Project) -> None:
    """The message names both; afterwards all is well."""
    configured(project, 'leaks = "error"', options='asyncio_mode = "auto"\n')
    project.tests(
        HEAD
        + """
import asyncio
async def test_it(async_db):
    async def count():
        async with async_db.session() as session:
            return await session.scalar(COUNT)
    tasks = [asyncio.create_task(count(), name=name) for name in ("one", "two")]
    first, second = await asyncio.gather(*tasks, return_exceptions=True)
    assert first == 0
    assert str(second) == (
        'task one and task two use the database at once, and with isolation = "transaction" a test has one '
        "connection.\\nLet one wait for the other, or give the test a database of its own: "
        '@pytest.mark.elefast(isolation="database")'
    )
    assert await count() == 0
"""
    )
    project.run().assert_outcomes(passed=1)


def test_a_statement_that_is_cancelled_costs_the_database(project: Project) -> None:
    """SQLAlchemy gives the connection up, and the transaction with it; what comes after is told so."""
    configured(project, 'leaks = "error"', options='asyncio_mode = "auto"\n')
    project.tests(
        HEAD
        + """
import asyncio
from elefast.errors import RefusedError
async def test_it(async_db, async_db_session):
    async_db_session.add(Item(name="a"))
    await async_db_session.commit()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(async_db_session.execute(text("SELECT pg_sleep(600)")), 0.1)
    async with async_db.session() as session:
        with pytest.raises(RefusedError, match="the transaction of this test is gone: it left its connection broken"):
            await session.scalar(COUNT)
async def test_next(async_db_session):
    assert await async_db_session.scalar(COUNT) == 0
"""
    )
    result = project.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it left its connection broken: *: the database was thrown away*"])


@pytest.mark.parametrize("what", ["write", "commit"])
def test_the_next_test_has_a_fresh_database(project: Project, request: pytest.FixtureRequest, what: str) -> None:
    """Where the test got past its transaction; it is named."""
    if what == "write":
        request.getfixturevalue("counted_at_once")
    configured(project, 'leaks = "error"', options='asyncio_mode = "auto"\n')
    project.tests(
        HEAD
        + f"""
import asyncpg
NAMES = []
async def write(async_db, session):
    connection = await asyncpg.connect(async_db.dsn)
    await connection.execute("INSERT INTO item (name) VALUES ('b')")
    await connection.close()
async def commit(async_db, session):
    await session.execute(text("INSERT INTO item (name) VALUES ('b')"))
    await session.execute(text("COMMIT"))
async def test_it(async_db, async_db_session):
    NAMES.append(async_db.name)
    await {what}(async_db, async_db_session)
async def test_next(async_db, async_db_session):
    assert await async_db_session.scalar(COUNT) == 0
    assert async_db.name not in NAMES
"""
    )
    result = project.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it *: the database was thrown away, and the next test has a fresh*"])


APPLICATION = """
from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
app = FastAPI()

async def session():
    raise NotImplementedError

@app.post("/items/{name}")
async def add(name: str, session: AsyncSession = Depends(session)):
    session.add(Item(name=name))
    await session.commit()
    return await session.scalar(COUNT)

@pytest.fixture
def application(async_db):
    async def own():
        async with async_db.session() as session:
            yield session
    app.dependency_overrides[session] = own
    return app
"""


def test_an_application_with_an_overridden_session(project: Project) -> None:
    """By an async client in an async test, and by FastAPI's own client in one loop; in several loops it is refused."""
    configured(project, 'leaks = "error"', options='asyncio_mode = "auto"\n')
    project.tests(
        HEAD
        + APPLICATION
        + """
import httpx
from fastapi.testclient import TestClient
from elefast.errors import RefusedError

@pytest.mark.parametrize("n", range(2))
async def test_async(application, async_db_session, n):
    assert await async_db_session.scalar(COUNT) == 0
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.post("/items/a")).json() == 1
        assert (await client.post("/items/b")).json() == 2
    assert await async_db_session.scalar(COUNT) == 2

@pytest.mark.parametrize("n", range(2))
def test_one_loop(application, n):
    with TestClient(application) as client:
        assert client.post("/items/a").json() == 1
        assert client.post("/items/b").json() == 2

def test_a_loop_for_each_request(application):
    client = TestClient(application)
    assert client.post("/items/a").json() == 1
    with pytest.raises(RefusedError, match="with TestClient"):
        client.post("/items/b")
"""
    )
    project.run_apart("-W", "ignore:Using").assert_outcomes(passed=5)

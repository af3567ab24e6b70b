"""The async fixtures, with whatever runs async tests."""

from __future__ import annotations

import pytest

from .conftest import PYTEST, Project

ONE_DATABASE = """
from sqlalchemy import text

NAME = text("SELECT current_database()")

{mark}
async def test_it(db, async_db, async_db_session, async_db_connection{arguments}):
    assert async_db.name == db.name
    assert await async_db_session.scalar(NAME) == await async_db_connection.scalar(NAME) == db.name
    async with async_db.engine.connect() as connection:
        assert await connection.scalar(NAME) == db.name

{mark}
async def test_again(async_db_session, async_db_connection{arguments}):
    assert await async_db_session.scalar(NAME) == await async_db_connection.scalar(NAME)
"""
ANYIO = "import pytest\npytestmark = [pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]"


@pytest.mark.parametrize(
    ("options", "mark"),
    [
        ("", "import pytest; pytestmark = pytest.mark.asyncio"),
        ('asyncio_mode = "auto"', ""),
        ('asyncio_mode = "auto"\nasyncio_default_test_loop_scope = "session"', ""),
        ("", 'import pytest; pytestmark = pytest.mark.asyncio(loop_scope="module")'),
    ],
    ids=["strict", "auto", "auto-session", "strict-module"],
)
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_pytest_asyncio(project: Project, options: str, mark: str, driver: str) -> None:
    """In both modes, in loops of any scope, with both drivers; all warnings are errors."""
    project.configure(f'engine.async_driver = "{driver}"', pytest_table=PYTEST + options)
    project.tests(mark + ONE_DATABASE.format(mark="", arguments=""))
    project.run().assert_outcomes(passed=2)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_a_pool_that_the_project_wants_is_closed_in_the_tests_loop(project: Project, driver: str) -> None:
    """Its connections are no leaks, and no driver warns of them."""
    keys = f'leaks = "error"\nengine.async_driver = "{driver}"\nengine.pool_size = 2'
    project.configure(keys, pytest_table=PYTEST + 'asyncio_mode = "auto"')
    project.tests(ONE_DATABASE.format(mark="", arguments=""))
    project.run().assert_outcomes(passed=2)


def test_anyio(project: Project) -> None:
    """Also without pytest-asyncio in the environment."""
    table = PYTEST.replace('asyncio_default_fixture_loop_scope = "function"', "")
    project.configure(pytest_table=table)
    project.tests(ANYIO + ONE_DATABASE.format(mark="", arguments=", anyio_backend"))
    project.run("-p", "no:asyncio").assert_outcomes(passed=2)


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_async_fixtures_share_what_the_test_uses(project: Project, plugin: str) -> None:
    """A fixture that adds rows through the session, and looks at them afterwards, is in the test's loop."""
    decorator = "@pytest_asyncio.fixture" if plugin == "asyncio" else "@pytest.fixture"
    head = "import pytest_asyncio, pytest\npytestmark = pytest.mark.asyncio" if plugin == "asyncio" else ANYIO
    project.tests(
        f"{head}\n"
        "from sqlalchemy import text\n"
        f"{decorator}\n"
        "async def row(async_db_session, anyio_backend_name='asyncio'):\n"
        "    await async_db_session.execute(text('CREATE TABLE mine AS SELECT 1 AS one'))\n"
        "    yield\n"
        "    assert await async_db_session.scalar(text('SELECT one + 1 FROM mine')) == 2\n"
        "    await async_db_session.commit()\n"
        f"async def test_it(row, async_db_session{', anyio_backend' if plugin == 'anyio' else ''}):\n"
        "    assert await async_db_session.scalar(text('SELECT one FROM mine')) == 1\n"
        "    await async_db_session.commit()\n"
    )
    project.run().assert_outcomes(passed=1)


def test_what_a_failed_test_left_open_is_closed_in_its_loop(project: Project) -> None:
    """An open transaction at the end of a test is no leak; the fixture closes it, and the test's error is seen."""
    project.configure('leaks = "error"')
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "pytestmark = pytest.mark.asyncio\n"
        "async def test_it(async_db_session, async_db_connection):\n"
        "    await async_db_session.execute(text('SELECT 1'))\n"
        "    await async_db_connection.execute(text('SELECT 1'))\n"
        "    assert False, 'my own error'\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*my own error*"])


def test_an_unused_connection_never_connects(project: Project) -> None:
    """A fixture that is asked for in vain costs nothing and leaves nothing."""
    project.configure('leaks = "error"')
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "@pytest.mark.asyncio\n"
        "async def test_it(async_db_connection, db_session):\n"
        "    query = 'SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()'\n"
        "    assert db_session.scalar(text(query)) == 1\n"
    )
    project.run().assert_outcomes(passed=1)


def test_the_connection_does_all_that_a_connection_does(project: Project) -> None:
    """Transactions, savepoints, streams, options, `run_sync` and the driver's own connection."""
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "pytestmark = pytest.mark.asyncio\n"
        "async def test_begin(async_db_connection):\n"
        "    async with async_db_connection.begin():\n"
        "        async with async_db_connection.begin_nested():\n"
        "            await async_db_connection.execute(text('CREATE TABLE mine ()'))\n"
        "    assert not async_db_connection.in_transaction()\n"
        "async def test_stream(async_db_connection):\n"
        "    async with async_db_connection.stream(text('SELECT generate_series(1, 3)')) as rows:\n"
        "        assert [row[0] async for row in rows] == [1, 2, 3]\n"
        "async def test_options(async_db_connection, db_connection):\n"
        "    await async_db_connection.execution_options(isolation_level='AUTOCOMMIT')\n"
        "    await async_db_connection.execute(text('CREATE TABLE mine ()'))\n"
        "    db_connection.execute(text('SELECT FROM mine'))\n"
        "async def test_run_sync(async_db_connection):\n"
        "    assert await async_db_connection.run_sync(lambda it: it.scalar(text('SELECT 1'))) == 1\n"
        "async def test_raw(async_db_connection):\n"
        "    assert (await async_db_connection.get_raw_connection()).driver_connection\n"
        "async def test_close(async_db_connection):\n"
        "    await async_db_connection.close()\n"
        "    assert async_db_connection.closed\n"
    )
    project.run().assert_outcomes(passed=6)


def test_a_connection_in_two_loops_is_explained(project: Project) -> None:
    """A fixture in another loop than the test's gets an error that names the way out."""
    project.tests(
        "import pytest, pytest_asyncio\n"
        "from sqlalchemy import text\n"
        "@pytest_asyncio.fixture(loop_scope='session')\n"
        "async def opened(async_db_connection):\n"
        "    await async_db_connection.execute(text('SELECT 1'))\n"
        "    yield\n"
        "    await async_db_connection.close()\n"
        "@pytest.mark.asyncio(loop_scope='function')\n"
        "async def test_it(opened, async_db_connection):\n"
        "    await async_db_connection.execute(text('SELECT 1'))\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*async with async_db.engine.connect() as connection*"])


def test_a_sync_test_may_run_a_loop_itself(project: Project) -> None:
    """Nothing of the fixtures belongs to a loop before it is used."""
    project.tests(
        "import asyncio\n"
        "from sqlalchemy import text\n"
        "def test_it(async_db):\n"
        "    async def work():\n"
        "        async with async_db.session() as session:\n"
        "            return await session.scalar(text('SELECT 1'))\n"
        "    assert asyncio.run(work()) == asyncio.run(work()) == 1\n"
    )
    project.run().assert_outcomes(passed=1)


def test_the_server_is_there_for_async_code(project: Project) -> None:
    """`async_db_server` makes further databases in the test's loop."""
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "@pytest.mark.asyncio\n"
        "async def test_it(async_db_server):\n"
        "    async with await async_db_server.create_database() as database:\n"
        "        async with database.session() as session:\n"
        "            assert await session.scalar(text('SELECT 1')) == 1\n"
    )
    project.run().assert_outcomes(passed=1)

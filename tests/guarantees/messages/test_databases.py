"""Ways to be wrong with the databases of tests: what isolation refuses, what is not elefast's, what is closed."""

from __future__ import annotations

from pathlib import Path

import pytest

import elefast
from elefast import DatabaseServer
from elefast.errors import ElefastError, full_text
from tests.guarantees.messages.conftest import Same, messages
from tests.integration.pytest_plugin.conftest import Project

HEAD = "import asyncio, pytest\nfrom sqlalchemy import create_engine, text\nCOUNT = text('select 1')\n"

# The body of a test that is isolated by a transaction, and raises.
IN_A_TRANSACTION = {
    "engine.connect": "def test_it(db):\n    db.engine.connect()",
    "isolation level": (
        "def test_it(db_connection):\n    db_connection.execution_options(isolation_level='SERIALIZABLE')"
    ),
    "a session around another": (
        "def test_it(db):\n"
        "    first, second = db.session(), db.session()\n"
        "    first.execute(text('create table a ()'))\n"
        "    second.execute(text('create table b ()'))\n"
        "    first.commit()"
    ),
    "COMMIT as a statement": (
        "def test_it(db_session):\n    db_session.execute(text('COMMIT'))\n    db_session.execute(COUNT)"
    ),
    "dropping the shared database": (
        "def test_it(db, db_server):\n    db.session().execute(COUNT)\n    db_server.drop_database(db.name)"
    ),
    "another event loop": (
        "def test_it(async_db):\n"
        "    async def ask():\n"
        "        async with async_db.session() as session:\n"
        "            await session.execute(COUNT)\n"
        "    asyncio.run(ask())\n"
        "    asyncio.run(ask())"
    ),
    "two at once": (
        "@pytest.mark.asyncio\n"
        "async def test_it(async_db):\n"
        "    async def ask():\n"
        "        async with async_db.session() as session:\n"
        "            await session.execute(text('select pg_sleep(0.1)'))\n"
        "    await asyncio.gather(asyncio.create_task(ask(), name='one'), asyncio.create_task(ask(), name='two'))"
    ),
}

SAYING = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.excinfo is not None:
        error = call.excinfo.value
        told = "\\n".join([str(error), *getattr(error, "__notes__", ())])
        print(f"<<<{told}>>>")
    return report
"""


def said(project: Project) -> str:
    """What the error of the one test says, without the traceback above it."""
    project.file("conftest.py", SAYING)
    out = project.run("-s").stdout.str()
    return out.partition("<<<")[2].partition(">>>")[0]


@pytest.mark.parametrize("name", IN_A_TRANSACTION)
def test_in_a_transaction(project: Project, same: Same, name: str) -> None:
    """The last lines of the traceback: what is refused, why, and the way out."""
    project.configure('migrator = "none"\nisolation = "transaction"')
    project.tests(f"{HEAD}{IN_A_TRANSACTION[name]}\n")
    same(name, said(project))


def test_sync_and_async(project: Project, same: Same) -> None:
    """In the setup of the test, so by its message alone."""
    project.configure('migrator = "none"\nisolation = "transaction"')
    project.tests("def test_it(db, async_db): pass")
    same("db and async_db", said(project))


def test_autocommit(project: Project, same: Same) -> None:
    """A setting that leaves nothing to roll back."""
    project.configure('migrator = "none"\nisolation = "transaction"\nengine.options.isolation_level = "AUTOCOMMIT"')
    project.tests(f"{HEAD}def test_it(db_session): db_session.execute(COUNT)")
    same("autocommit", said(project))


def test_two_event_loops(project: Project, same: Same) -> None:
    """A fixture of the session's loop and a test of its own."""
    project.tests(
        f"{HEAD}import pytest_asyncio\n"
        "@pytest_asyncio.fixture(loop_scope='session')\n"
        "async def opened(async_db_connection):\n"
        "    await async_db_connection.execute(COUNT)\n"
        "    yield\n"
        "    await async_db_connection.close()\n"
        "@pytest.mark.asyncio(loop_scope='function')\n"
        "async def test_it(opened, async_db_connection):\n"
        "    await async_db_connection.execute(COUNT)\n"
    )
    same("async_db_connection in two loops", said(project))


def test_before_the_fixture(project: Project, same: Same) -> None:
    """An application that connects at import; the name of the host is what its driver shows."""
    project.configure('migrator = "none"\nexport_env = ["DATABASE_URL"]')
    project.tests(f"import os\n{HEAD}def test_it(): create_engine(os.environ['DATABASE_URL']).connect()")
    assert "request-the-db-fixture.elefast.invalid" in said(project)


def test_a_connection_left_open(project: Project, same: Same) -> None:
    """With leaks = "error" the test fails, with the query that was last on it."""
    project.configure('migrator = "none"\nleaks = "error"')
    project.tests(
        f"{HEAD}OPEN = []\n"
        "def test_it(db):\n"
        "    OPEN.append(create_engine(db.url).connect())\n"
        "    OPEN[0].execute(text('select 4711'))\n"
        "def teardown_module():\n"
        "    OPEN[0].invalidate()  # nothing is to be rolled back on what elefast has ended\n"
    )
    out = said(project)
    start, _, rest = out.partition("(pid ")
    same("connection left open", f"{start}(pid <pid>, {rest.partition(', ')[2]}")


def test_a_closed_stack(project: Project, same: Same) -> None:
    """Somebody kept it."""
    stack = elefast.from_config(project.path)
    stack.close()
    with pytest.raises(ElefastError) as caught:
        stack.checkout()
    same("closed stack", full_text(caught.value))


def test_a_foreign_database(project: Project, same: Same) -> None:
    """Not even one that does not exist."""
    with pytest.raises(ElefastError) as caught:
        DatabaseServer(project.server).drop_database("precious")
    same("foreign database", full_text(caught.value))


def test_more_than_the_pool_allows(project: Project, same: Same) -> None:
    """Nobody would ever give one back."""
    project.configure('migrator = "none"\npool.size = 0\npool.max = 2')
    with elefast.from_config(project.path) as stack:
        lent = [stack.checkout(), stack.checkout()]
        with pytest.raises(ElefastError) as caught:
            stack.checkout()
        for database in lent:
            database.release()
    same("pool exhausted", full_text(caught.value))


ELSEWHERE = {
    "daemon that refuses": "tests/integration/docker/test_engines.py::test_no_permission",
    "pull that fails": "tests/integration/docker/test_pull.py::test_each_refusal_has_its_error",
    "container of somebody else": "tests/integration/docker/test_container.py",
    "disk full": "tests/integration/providers/test_local_recovery.py::test_a_data_dir_without_room",
    "user that cannot run the server": "tests/integration/providers/test_local_account.py",
}


@pytest.mark.parametrize("place", ELSEWHERE.values())
def test_what_needs_more_than_a_project_has_its_test_elsewhere(place: str) -> None:
    """Where the engine, mounts or other users are at hand."""
    path, _, name = place.partition("::")
    source = Path(__file__).parents[3].joinpath(path).read_text(encoding="utf-8")
    assert f"def {name}" in source


def test_every_message_is_of_a_case() -> None:
    """What is written is compared."""
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in messages("databases") if f'"{name}"' not in source] == []

"""`Stack.database()` and `async_database()`: a database for a fixture of any scope."""

from __future__ import annotations

import psycopg
import pytest

import elefast
from elefast.errors import RefusedError

from .conftest import Project

CONFIGURED = 'migrator = "none"\nexport_env = ["DATABASE_URL"]\npatch = ["app:engine"]'
APP = "from sqlalchemy import create_engine\nengine = create_engine('postgresql+psycopg://x/y')\n"
NOTES = """
import os
import app
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

def name(engine):
    with engine.connect() as connection:
        return connection.scalar(text("select current_database()"))
"""


def _left(project: Project) -> list[str]:
    with psycopg.connect(project.server.replace("+psycopg", "")) as connection:
        return [name for (name,) in connection.execute("select datname from pg_database where datname ~ '^elefast_d'")]


def _write(project: Project, tests: str, conftest: str = "") -> None:
    project.configure(CONFIGURED)
    project.file("app.py", APP)
    project.file("notes.py", NOTES)
    project.file("conftest.py", conftest)
    project.tests("from notes import *\n" + tests)


def test_the_application_of_a_session(project: Project) -> None:
    """It leads to the session's database outside of tests with their own, and back to it after each of them."""
    _write(
        project,
        """
@pytest.fixture(scope="session")
def served(elefast_stack):
    with elefast_stack.database(application=True) as database:
        assert database.name in os.environ["DATABASE_URL"]
        yield database

def test_served(served):
    assert name(app.engine) == served.name
    assert served.name in os.environ["DATABASE_URL"]

def test_own(served, db):
    assert db.name != served.name
    assert name(app.engine) == db.name
    assert db.name in os.environ["DATABASE_URL"]

@pytest.mark.elefast(scope="module")
def test_scope(served, db):
    assert name(app.engine) == db.name

@pytest.mark.elefast(isolation="transaction")
def test_transaction(served, db_session):
    assert "elefast.invalid" in os.environ["DATABASE_URL"]
    with Session(app.engine) as session:
        assert session.scalar(text("select current_database()")) != served.name

def test_again(served):
    assert name(app.engine) == served.name
    assert served.name in os.environ["DATABASE_URL"]
""",
    )
    project.run().assert_outcomes(passed=5)
    assert not _left(project)


def test_without_the_application(project: Project) -> None:
    """It is a database beside the application."""
    _write(
        project,
        """
@pytest.fixture(scope="module")
def beside(elefast_stack):
    with elefast_stack.database() as database:
        yield database

def test_it(beside, db):
    assert name(app.engine) == db.name != beside.name
    assert name(beside.engine) == beside.name

def test_alone(beside):
    assert "elefast.invalid" in os.environ["DATABASE_URL"]
""",
    )
    project.run().assert_outcomes(passed=2)
    assert not _left(project)


def test_overlapping_fixtures(project: Project) -> None:
    """The last one has the application; when it is over, the one before has it again, in whatever order they end."""
    _write(
        project,
        """
@pytest.fixture(scope="module")
def outer(elefast_stack):
    with elefast_stack.database(application=True) as database:
        yield database

def test_it(outer, elefast_stack):
    first, second = elefast_stack.database(application=True), elefast_stack.database(application=True)
    one = first.__enter__()
    two = second.__enter__()
    assert name(app.engine) == two.name
    first.__exit__(None, None, None)
    assert name(app.engine) == two.name
    second.__exit__(None, None, None)
    assert name(app.engine) == outer.name
""",
    )
    project.run().assert_outcomes(passed=1)


def test_async(project: Project) -> None:
    """An async client of a module, in a loop of the module."""
    _write(
        project,
        """
import pytest_asyncio
pytestmark = pytest.mark.asyncio(loop_scope="module")

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(elefast_stack):
    async with elefast_stack.async_database(application=True) as database:
        async with database.engine.begin() as connection:
            await connection.execute(text("create table note ()"))
        yield database

async def test_one(client):
    assert name(app.engine) == client.name
    async with client.engine.connect() as connection:
        assert await connection.scalar(text("select count(*) from note")) == 0

async def test_two(client, async_db):
    assert name(app.engine) == async_db.name != client.name
""",
    )
    project.run().assert_outcomes(passed=2)
    assert not _left(project)


def test_the_advice_works(project: Project) -> None:
    """A wider fixture that meets the unreachable host is told both ways, and each of them helps."""
    fixture = (
        '@pytest.fixture(scope="module")\ndef client({argument}):\n'
        "    engine = create_engine(os.environ['DATABASE_URL'])\n"
        "    assert name(engine)\n    yield engine\n    engine.dispose()\n"
        "{marker}def test_it(client): assert name(client)\n"
    )
    _write(project, fixture.format(argument="", marker=""))
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(['*pytest.mark.elefast(scope="module")*elefast_stack.database(application=True)*'])
    _write(project, fixture.format(argument="", marker='@pytest.mark.elefast(scope="module")\n'))
    project.run().assert_outcomes(passed=1)
    _write(
        project,
        '@pytest.fixture(scope="module")\ndef application(elefast_stack):\n'
        "    with elefast_stack.database(application=True):\n        yield\n"
        + fixture.format(argument="application", marker=""),
    )
    project.run().assert_outcomes(passed=1)


def test_a_target_that_cannot_be_led(project: Project) -> None:
    """The error names the target, and nothing is left behind."""
    _write(
        project,
        '@pytest.fixture(scope="module")\ndef client(elefast_stack):\n'
        "    with elefast_stack.database(application=True):\n        yield\n"
        "def test_it(client): pass\n",
    )
    project.file("app.py", "engine = 1\n")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*app:engine*"])
    assert not _left(project)


def test_outside_of_pytest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script has a database, but no plugin that leads an application."""
    from elefast.config import current_run

    before = current_run.enter(None)
    try:
        project.configure()
        with elefast.from_config(project.path) as stack:
            with stack.database() as database, database.session() as session:
                assert session.connection() is not None
            with pytest.raises(RefusedError, match="only elefast's plugin") as caught, stack.database(application=True):
                pass
            assert caught.value.code == "no-application"
    finally:
        current_run.enter(before)
    assert not _left(project)

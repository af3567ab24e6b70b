"""Plans and Alembic projects as migrators of any server: on a connection that somebody else opened."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from elefast.errors import MigrationError
from elefast.extras.alembic import AlembicMigrator
from elefast.migrators import Function, Plan, Sql
from elefast.postgres.urls import with_driver
from tests.integration.migrators.migrator_support import Project, dsn_of, tables

# The recipe of Alembic's documentation for tests, with all that env.py files do to a process.
_SHARING_ENV = """\
import logging.config, os, sys
from alembic import context

logging.config.fileConfig(context.config.config_file_name)
os.environ["LEFT_BY_ENV"] = "1"
sys.path.insert(0, "left_by_env")
connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""


@pytest.fixture
def migrator(project: Project) -> AlembicMigrator:
    """A migrator for an unedited Alembic project."""
    project.alembic_init()
    return AlembicMigrator(project.root / "alembic.ini")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_sync(template: URL, migrator: AlembicMigrator, driver: str) -> None:
    """An unedited env.py migrates the database of the connection, whatever its driver."""
    with create_engine(with_driver(template, f"postgresql+{driver}"), poolclass=NullPool).connect() as connection:
        migrator.migrate(connection)

        assert not connection.in_transaction()
        assert connection.scalar(text("SELECT count(*) FROM second")) == 0


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("kind", ["generic", "async"])
def test_async(project: Project, template: URL, driver: str, kind: str) -> None:
    """The same from an async connection in a running loop, which goes on meanwhile."""
    project.alembic_init(kind)
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    async def migrate() -> None:
        engine = create_async_engine(with_driver(template, f"postgresql+{driver}"), poolclass=NullPool)
        ticking = asyncio.create_task(tick())
        async with engine.connect() as connection:
            await AlembicMigrator(project.root / "alembic.ini").migrate_async(connection)
        ticking.cancel()

    asyncio.run(migrate())

    assert "second" in tables(template)
    assert len(ticks) > 5


def test_in_a_transaction(template: URL, migrator: AlembicMigrator) -> None:
    """A transaction in which nothing was done yet is no obstacle."""
    with create_engine(template, poolclass=NullPool).begin() as connection:
        migrator.migrate(connection)

    assert "second" in tables(template)


def test_plan(project: Project, template: URL) -> None:
    """A plan is a migrator, too."""
    project.write("schema.sql", "CREATE TABLE made ();")
    with create_engine(template, poolclass=NullPool).connect() as connection:
        Plan(root=project.root, migrator=Sql(("schema.sql",))).migrate(connection)

    assert tables(template) == ["made"]


def test_keywords(project: Project, template: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revision, section, arguments and variables are passed on."""
    monkeypatch.setenv("APP_URL", "postgresql://nowhere.invalid/production")
    project.alembic_init()
    project.replace("alembic.ini", "[alembic]", "[special]")
    project.replace(
        "migrations/env.py",
        "target_metadata = None",
        "import os\n"
        "assert context.get_x_argument() == ['tenant=1']\n"
        "config.set_main_option('sqlalchemy.url', os.environ['APP_URL'])\n"
        "target_metadata = None",
    )
    migrator = AlembicMigrator(
        project.root / "alembic.ini", revision="0001", section="special", x=["tenant=1"], env=["APP_URL"]
    )
    with create_engine(template, poolclass=NullPool).connect() as connection:
        migrator.migrate(connection)

    assert tables(template) == ["alembic_version", "first"]


def test_recipe(project: Project, template: URL, migrator: AlembicMigrator) -> None:
    """Servers can ask it what it depends on."""
    manifest = migrator.build(template)

    assert migrator.fingerprint() == migrator.inputs()
    assert migrator.why_not_kept() == ""
    assert migrator.still_fits(manifest) == []


# -- connections that cannot be opened again -----------------------------------------------------------------


def unreachable(template: URL) -> Callable[[], psycopg.Connection]:
    """A creator of connections to the template, for an engine whose URL does not say where they lead."""
    return lambda: psycopg.connect(dsn_of(template))


def test_sharing_the_connection(project: Project, template: URL) -> None:
    """Where only this connection leads to the database, env.py can use it, and the process is put back."""
    project.alembic_init()
    project.write("migrations/env.py", _SHARING_ENV)
    logger = logging.getLogger("some.application")
    path, directory, handlers = list(sys.path), os.getcwd(), list(logging.root.handlers)
    engine = create_engine("postgresql+psycopg://", creator=unreachable(template), poolclass=NullPool)

    with engine.connect() as connection:
        AlembicMigrator(project.root / "alembic.ini", env=["APP_URL"]).migrate(connection)

    assert "second" in tables(template)
    assert not logger.disabled
    assert (sys.path, os.getcwd(), logging.root.handlers) == (path, directory, handlers)
    assert "LEFT_BY_ENV" not in os.environ
    assert "APP_URL" not in os.environ


def test_uncommitted_work(project: Project, template: URL) -> None:
    """What the connection did and nobody else sees is there for the migrations, and all of it uncommitted."""
    project.alembic_init()
    project.write("migrations/env.py", _SHARING_ENV)
    project.revision("0003", "0002", "INSERT INTO mine VALUES (1)")
    engine = create_engine(template, poolclass=NullPool)

    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE mine (x int)"))
        AlembicMigrator(project.root / "alembic.ini").migrate(connection)
        assert tables(template) == []
        connection.commit()

    assert tables(template) == ["alembic_version", "first", "mine", "second"]


def test_unedited_env_is_refused(template: URL, migrator: AlembicMigrator) -> None:
    """An env.py that opens a connection of its own cannot, and the error says why it had to be this way."""
    engine = create_engine("postgresql+psycopg://", creator=unreachable(template), poolclass=NullPool)

    with engine.connect() as connection, pytest.raises(MigrationError) as caught:
        migrator.migrate(connection)

    assert 'config.attributes["connection"]' in str(caught.value)
    assert "on the given connection, because its URL" in str(caught.value)
    assert tables(template) == []


def test_other_engines_are_not_disturbed(project: Project, template: URL) -> None:
    """Only the migration itself is kept from connecting, and only while it runs."""
    project.write(
        "testing.py",
        """\
        import threading
        import sqlalchemy

        def create(connection):
            found = []

            def other_thread():
                engine = sqlalchemy.create_engine("sqlite://")
                with engine.connect() as other:
                    found.append(other.scalar(sqlalchemy.text("SELECT 1")))
                engine.dispose()

            thread = threading.Thread(target=other_thread)
            thread.start()
            thread.join()
            assert found == [1]
            connection.execute(sqlalchemy.text("CREATE TABLE made (id int)"))
        """,
    )
    engine = create_engine("postgresql+psycopg://", creator=unreachable(template), poolclass=NullPool)

    with engine.connect() as connection:
        Plan(root=project.root, migrator=Function("testing:create")).migrate(connection)

    assert tables(template) == ["made"]


def test_steps_that_need_connections_of_their_own(project: Project, template: URL) -> None:
    """SQL files cannot run on a connection of somebody else; the error has both reasons."""
    project.write("schema.sql", "CREATE TABLE made ();")
    engine = create_engine("postgresql+psycopg://", creator=unreachable(template), poolclass=NullPool)

    with (
        engine.connect() as connection,
        pytest.raises(
            MigrationError,
            match=r"schema\.sql needs connections of its own, and the given one cannot be opened again: its URL",
        ),
    ):
        Plan(root=project.root, migrator=Sql(("schema.sql",))).migrate(connection)


def test_import_is_light() -> None:
    """The migrator can be imported without greenlet, the async half of SQLAlchemy and Alembic."""
    code = (
        "import sys; sys.modules['greenlet'] = None;"
        "from elefast.extras.alembic import AlembicMigrator;"
        "assert 'sqlalchemy.ext.asyncio' not in sys.modules; assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

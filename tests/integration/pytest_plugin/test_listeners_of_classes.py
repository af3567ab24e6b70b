"""Listeners on SQLAlchemy's classes are the application's: they hear its engines, and never elefast's own."""

from __future__ import annotations

import pytest

from tests.integration.pytest_plugin.conftest import Project

# Every event of connections that SQLAlchemy has, on the classes that an application can listen to, each with a
# listener that would break a connection of elefast's own. Those that may run SQL do.
APPLICATION = """
from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import NullPool, Pool, QueuePool

HEARD = []


def database(driver):
    driver = getattr(driver, "driver_connection", driver)
    info = getattr(driver, "info", None)
    return getattr(info, "dbname", "") or ""


def note(name, driver):
    HEARD.append((name, database(driver)))


@event.listens_for(Engine, "do_connect")
def do_connect(dialect, record, arguments, keywords):
    HEARD.append(("do_connect", keywords.get("dbname") or keywords.get("database")))


@event.listens_for(Engine, "connect")
def set_timezone(driver, record):
    cursor = driver.cursor()
    cursor.execute("SELECT current_database()")
    HEARD.append(("connect", cursor.fetchone()[0]))
    cursor.execute("SET timezone TO 'UTC'")
    cursor.close()


@event.listens_for(NullPool, "connect")
@event.listens_for(QueuePool, "connect")
def of_a_pool(driver, record):
    note("connect of the pool", driver)


@event.listens_for(Pool, "first_connect")
def first_connect(driver, record):
    note("first_connect", driver)


@event.listens_for(Pool, "checkout")
def checkout(driver, record, proxy):
    cursor = driver.cursor()
    cursor.execute("SELECT current_database()")
    HEARD.append(("checkout", cursor.fetchone()[0]))
    cursor.execute("SET application_name TO 'of the application'")
    cursor.close()


@event.listens_for(Pool, "checkin")
def checkin(driver, record):
    note("checkin", driver)


@event.listens_for(Pool, "reset")
def reset(driver, record, state):
    note("reset", driver)


@event.listens_for(Pool, "close")
def close(driver, record):
    note("close", driver)


@event.listens_for(Connection, "begin")
@event.listens_for(Engine, "begin")
@event.listens_for(Engine, "commit")
@event.listens_for(Engine, "rollback")
@event.listens_for(Engine, "engine_connect")
def of_a_connection(connection):
    note("a connection's", connection.connection.driver_connection)


@event.listens_for(Engine, "engine_disposed")
def disposed(engine):
    HEARD.append(("disposed", engine.url.database))


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def before_cursor_execute(connection, cursor, statement, parameters, context, many):
    note("before_cursor_execute", connection.connection.driver_connection)
    return statement + " -- of the application", parameters


@event.listens_for(Engine, "before_execute")
def before_execute(connection, statement, multiple, parameters, options):
    note("before_execute", connection.connection.driver_connection)


@event.listens_for(Engine, "do_execute")
def do_execute(cursor, statement, parameters, context):
    HEARD.append(("do_execute", ""))


@event.listens_for(Engine, "handle_error")
def handle_error(context):
    HEARD.append(("handle_error", str(context.original_exception)))
"""

TESTS = """
import asyncio
import time

import pytest
from sqlalchemy import event, text

import application

NAMES = []


@pytest.mark.parametrize("n", range(4))
def test_sync(db, db_session, n):
    NAMES.append(db.name)
    assert db_session.scalar(text("SELECT count(*) FROM item")) == 0
    db_session.execute(text("INSERT INTO item VALUES (1)"))
    db_session.commit()
    connects = [entry for entry in application.HEARD if entry[1] == db.name]
    assert connects.count(("do_connect", db.name)) == connects.count(("connect", db.name)) == 1
    assert connects.count(("checkout", db.name)) == 1
    time.sleep(0.2)


@pytest.mark.parametrize("n", range(3))
def test_async(async_db, n):
    NAMES.append(async_db.name)

    async def look():
        async with async_db.engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM item")) == 0
        await async_db.engine.dispose()

    asyncio.run(look())
    assert application.HEARD.count(("do_connect", async_db.name)) == 1
    time.sleep(0.2)
"""

CONFTEST = """
import application


def pytest_unconfigure(config):
    # The last of the hooks: everything of elefast's is closed by now.
    import test_it

    names = {*test_it.NAMES, ""}
    foreign = [entry for entry in application.HEARD if entry[1] not in names]
    if foreign:
        raise AssertionError(f"heard of elefast's own: {foreign}")
    assert len(application.HEARD) > 50
    print("heard nothing of elefast's own")
"""


@pytest.mark.parametrize(
    ("driver", "isolation"),
    [("psycopg", "database"), ("psycopg", "transaction"), ("psycopg2", "database"), ("pg8000", "database")],
)
def test_only_engines_of_tests_are_heard(project: Project, driver: str, isolation: str) -> None:
    """Each connection of a test is heard once, with SQL and without, and none of elefast's own is."""
    project.configure(
        f'migrator = "sql"\nsql.files = ["schema.sql"]\nisolation = "{isolation}"\npool.size = 1\n'
        f'engine.driver = "{driver}"\nengine.async_driver = "asyncpg"'
    )
    project.file("schema.sql", "CREATE TABLE item (id int PRIMARY KEY);")
    project.file("application.py", APPLICATION)
    project.file("conftest.py", CONFTEST)
    tests = TESTS
    if isolation == "transaction":  # one connection for all of them, and no connect() of the engine
        tests = tests.partition('@pytest.mark.parametrize("n", range(3))')[0]
        tests = "\n".join(line for line in tests.splitlines() if "connects" not in line)
    project.tests(tests)
    result = project.run_apart("-rA", "-x", "-W", "ignore::sqlalchemy.exc.SAWarning")
    result.assert_outcomes(passed=4 if isolation == "transaction" else 7)
    result.stdout.fnmatch_lines(["*heard nothing of elefast's own*"])

"""With isolation = "transaction", a session that may keep what no rollback undoes serves one test."""

from __future__ import annotations

import pytest

from elefast.isolation.lasting_effects import may_outlast_rollback
from tests.integration.pytest_plugin.conftest import Project

SCHEMA = "CREATE TABLE item (id int PRIMARY KEY, name text);"
TRIGGER = """
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM set_config('app.tenant', new.name, true); RETURN new; END $$;
CREATE TRIGGER remember BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION remember();
"""
BLANK = """
CREATE FUNCTION uppercase() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN new.name := upper(new.name); RETURN new; END $$;
CREATE TRIGGER uppercase BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION uppercase();
"""

TESTS = """
import pytest
from sqlalchemy import text

TENANT = text("SELECT current_setting('app.tenant', true)")
PIDS = []


def look(session):
    PIDS.append(session.scalar(text("SELECT pg_backend_pid()")))
    assert session.scalar(TENANT) is None
    assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE from_sql")) == 0
    assert session.scalar(text("SELECT count(*) FROM pg_listening_channels()")) == 0
    assert session.scalar(text("SELECT count(*) FROM item")) == 0


LEAVES = [
    "SET LOCAL app.tenant = '7'",
    "SELECT set_config('app.tenant', '7', true)",
    "select 1; set app.tenant to '7'",
    "DO $$ BEGIN PERFORM set_config('app.tenant', '7', true); END $$",
    "PREPARE mine AS SELECT 1",
    "LISTEN mine",
    "SELECT setseed(0.5)",
    "LOAD 'plpgsql'",
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('app.tenant', '7', true) $$",
]


@pytest.mark.parametrize("leaves", LEAVES)
def test_it(db_session, leaves):
    look(db_session)
    db_session.execute(text(leaves))
    db_session.commit()


def test_the_driver(db_session):
    look(db_session)
    driver = db_session.connection().connection.driver_connection
    if hasattr(driver, "row_factory"):
        from psycopg.rows import dict_row
        driver.row_factory = dict_row
        driver.prepare_threshold = 1
    elif hasattr(driver, "set_client_encoding"):
        import psycopg2.extensions, psycopg2.extras
        psycopg2.extensions.register_type(
            psycopg2.extensions.new_type((25,), "SHOUTED", lambda value, cursor: value.upper()), driver
        )
        driver.cursor_factory = psycopg2.extras.DictCursor
    else:
        driver.register_in_adapter(25, str.upper)


@pytest.mark.parametrize("n", range(3))
def test_nothing_else(db_session, n):
    look(db_session)
    assert db_session.scalar(text("SELECT 'a'::text")) == "a"
    db_session.execute(text("INSERT INTO item VALUES (1, 'a')"))
    db_session.execute(text("SET LOCAL statement_timeout = '10s'"))
    db_session.commit()


def test_each_had_a_session_of_its_own_and_the_others_shared_one():
    assert len(set(PIDS[:-2])) == len(PIDS) - 2
    assert len(set(PIDS[-3:])) == 1
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_what_no_rollback_undoes_goes_with_its_session(project: Project, driver: str) -> None:
    """Settings that PostgreSQL does not know, what SQL prepared, and what a test set on the driver's connection."""
    project.configure(
        f'migrator = "sql"\nsql.files = ["schema.sql"]\nisolation = "transaction"\nleaks = "error"\n'
        f'engine.driver = "{driver}"'
    )
    project.file("schema.sql", SCHEMA + BLANK)
    project.tests(TESTS)
    project.run().assert_outcomes(passed=14)


def test_a_function_of_the_database_may_do_it(project: Project) -> None:
    """A trigger sets what no statement of the test names, so no session serves two tests."""
    project.configure('migrator = "sql"\nsql.files = ["schema.sql"]\nisolation = "transaction"')
    project.file("schema.sql", SCHEMA + TRIGGER)
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(db_session, n):\n"
        "    assert db_session.scalar(text(\"SELECT current_setting('app.tenant', true)\")) is None\n"
        "    db_session.execute(text(\"INSERT INTO item VALUES (1, 'a')\"))\n"
        "    db_session.commit()\n"
    )
    project.run().assert_outcomes(passed=2)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_a_statement_is_prepared_as_if_the_test_were_alone(project: Project, driver: str) -> None:
    """A driver that prepares what it executes often counts anew in each test, and a prepared statement would fail."""
    project.configure(
        f'migrator = "sql"\nsql.files = ["schema.sql"]\nisolation = "transaction"\nengine.driver = "{driver}"'
    )
    project.file("schema.sql", SCHEMA + "CREATE SCHEMA other; CREATE TABLE other.item (id text);")
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "@pytest.mark.parametrize('n', range(6))\n"
        "def test_it(db_session, n):\n"
        "    for path in ['public'] if n < 5 else ['public', 'other']:\n"
        "        db_session.execute(text(f'SET search_path TO {path}'))\n"
        "        assert db_session.execute(text('SELECT id FROM item')).all() == []\n"
    )
    project.run().assert_outcomes(passed=6)


def test_statistics_that_were_reset_hide_nobody(project: Project, counted_at_once: None) -> None:
    """Who came and went before is not counted any more, so the database is thrown away."""
    project.configure('migrator = "sql"\nsql.files = ["schema.sql"]\nisolation = "transaction"')
    project.file("schema.sql", SCHEMA)
    project.tests(
        "import psycopg\n"
        "from sqlalchemy import text\n"
        "def test_it(db, db_session):\n"
        "    with psycopg.connect(db.dsn) as other:\n"
        "        other.execute(\"INSERT INTO item VALUES (1, 'a')\")\n"
        "    db_session.execute(text('SELECT pg_stat_reset()'))\n"
        "def test_next(db_session):\n"
        "    assert db_session.scalar(text('SELECT count(*) FROM item')) == 0\n"
    )
    result = project.run("-W", "default")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*test_it.py::test_it was not alone*: the database was thrown away*"])


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT item.id FROM item WHERE item.id = %(id_1)s::INTEGER",
        "INSERT INTO item (name) VALUES (%(name)s::VARCHAR) RETURNING item.id",
        "UPDATE item SET name=%(name)s::VARCHAR WHERE item.id = 1",
        "WITH one AS (SELECT 1) SELECT * FROM one",
        "SAVEPOINT sa_savepoint_1",
        "ROLLBACK TO SAVEPOINT sa_savepoint_1",
        "RELEASE SAVEPOINT sa_savepoint_1",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET LOCAL lock_timeout = '1s';",
        "CREATE TABLE other (id int)",
        "TRUNCATE item",
    ],
)
def test_what_a_rollback_undoes(statement: str) -> None:
    """What SQLAlchemy sends for usual work needs no new session."""
    assert not may_outlast_rollback(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT query_to_xml('select set_config(''app.tenant'', ''7'', true)', true, true, '')",
        "SELECT dblink_connect('other', 'dbname=other')",
        "SELECT pg_replication_origin_session_setup('other')",
        "EXPLAIN ANALYZE EXECUTE mine",
        "COPY item FROM STDIN",
        "SET SESSION app.tenant = '7'",
        'SET "app"."tenant" TO 7',
        "SELECT 1; LISTEN mine",
        "raw access",
    ],
)
def test_what_a_rollback_may_not_undo(statement: str) -> None:
    """In doubt the session is renewed."""
    assert may_outlast_rollback(statement)

"""`isolation = "transaction"` with sync drivers: tests share a database, and none sees what another one did."""

from __future__ import annotations

import time

import psycopg
import pytest
from sqlalchemy import make_url

from .conftest import PYTEST, Project

APP = """
from sqlalchemy import func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

COUNT = select(func.count()).select_from(Item)
"""
HEAD = """
import time

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from app import COUNT, Item
"""
SCHEMA = "CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE NOT NULL);"


def configured(project: Project, more: str = "", *, isolation: str = "transaction", options: str = "") -> Project:
    """The project with a table, an application that knows it, and the isolation."""
    project.file("schema.sql", SCHEMA)
    project.file("app.py", APP)
    keys = f'migrator = "sql"\nsql.files = ["schema.sql"]\nisolation = "{isolation}"\n{more}'
    project.configure(keys, pytest_table=PYTEST + options)
    return project


@pytest.fixture
def shop(project: Project) -> Project:
    """A project whose tests are isolated by transactions."""
    return configured(project)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_each_test_finds_the_database_as_it_was_migrated(project: Project, driver: str) -> None:
    """Whatever the one before did: commit, fail, alter the schema, change settings, take locks."""
    configured(project, f'engine.driver = "{driver}"\nleaks = "error"')
    project.tests(
        HEAD
        + """
LOCKS = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")

@pytest.fixture(autouse=True)
def as_it_was(db_session):
    assert db_session.scalar(COUNT) == 0
    assert db_session.scalar(LOCKS) == 0
    db_session.rollback()

def test_commit(db, db_session):
    db_session.add(Item(name="a"))
    db_session.commit()
    with db.session() as other:
        assert other.scalar(COUNT) == 1
    assert db_session.get_bind().dialect.driver == DRIVER

def test_fails(db_session):
    db_session.add(Item(name="a"))
    db_session.commit()
    assert False, "on purpose"

def test_rollback(db_session):
    db_session.add(Item(name="a"))
    db_session.commit()
    db_session.add(Item(name="b"))
    db_session.flush()
    db_session.rollback()
    assert db_session.scalar(COUNT) == 1

def test_error(db_session):
    db_session.add(Item(name="a"))
    db_session.commit()
    db_session.add(Item(name="a"))
    with pytest.raises(IntegrityError):
        db_session.commit()
    db_session.rollback()
    db_session.add(Item(name="b"))
    db_session.commit()
    assert db_session.scalar(COUNT) == 2

def test_an_error_at_the_end(db_session):
    with pytest.raises(DBAPIError):
        db_session.execute(text("INSERT INTO item (name) VALUES (NULL)"))

def test_nested(db_session):
    db_session.add(Item(name="a"))
    with pytest.raises(IntegrityError), db_session.begin_nested():
        db_session.add_all([Item(name="b"), Item(name="b")])
        db_session.flush()
    db_session.commit()
    assert db_session.scalar(COUNT) == 1

def test_truncate(db_session):
    db_session.add(Item(name="a"))
    db_session.commit()
    db_session.execute(text("TRUNCATE item"))
    db_session.commit()
    assert db_session.scalar(COUNT) == 0

@pytest.mark.parametrize("n", range(2))
def test_schema(db_session, n):
    db_session.execute(text("CREATE TABLE mine ()"))
    db_session.execute(text("ALTER TABLE item ADD COLUMN price int"))
    db_session.commit()

@pytest.mark.parametrize("n", range(2))
def test_session_state(db_session, n):
    assert db_session.scalar(text("SHOW statement_timeout")) == "0"
    db_session.execute(text("SET statement_timeout = '7s'"))
    db_session.execute(text("SELECT pg_advisory_lock(1)"))
    db_session.execute(text("CREATE TEMP TABLE t ()"))
    db_session.commit()

def test_connection(db_connection, db_session):
    db_connection.execution_options(logging_token="mine")
    insert = text("INSERT INTO item (name) VALUES (:name)")
    db_connection.execute(insert, {"name": "a"})
    db_connection.commit()
    with db_connection.begin():
        db_connection.execute(insert, {"name": "b"})
    db_connection.execute(insert, {"name": "c"})
    db_connection.rollback()
    assert db_session.scalar(COUNT) == 2

def test_the_driver_itself(db_connection, db_session):
    raw = db_connection.connection
    raw.cursor().execute("INSERT INTO item (name) VALUES ('a')")
    raw.rollback()
    raw.cursor().execute("INSERT INTO item (name) VALUES ('b')")
    raw.commit()
    assert db_session.scalar(COUNT) == 1

def test_rows_in_portions(db_session):
    db_session.add_all([Item(name=str(n)) for n in range(30)])
    db_session.commit()
    rows = db_session.scalars(select(Item), execution_options={"yield_per": 7})
    assert [len(part) for part in rows.partitions()] == [7, 7, 7, 7, 2]

def test_nothing(db): pass
""".replace("DRIVER", repr(driver))
    )
    project.run().assert_outcomes(passed=14, failed=1)


def test_one_database_serves_all_tests_of_a_process(shop: Project) -> None:
    """And it is gone afterwards."""
    shop.tests(
        HEAD
        + """
NAMES = []
@pytest.mark.parametrize("n", range(3))
def test_it(db, db_session, n):
    NAMES.append(db_session.scalar(text("SELECT current_database()")))
    assert {db.name} == set(NAMES)
@pytest.mark.elefast(isolation="database")
def test_is_still_there(db, db_session):
    query = text("SELECT count(*) FROM pg_database WHERE datname = :name")
    assert db_session.scalar(query, {"name": NAMES[0]}) == 1
"""
    )
    shop.run().assert_outcomes(passed=4)
    shop.tests(
        HEAD + "def test_it(db_session):\n"
        "    query = text(\"SELECT count(*) FROM pg_database WHERE datname ~ '^elefast_shared'\")\n"
        "    assert db_session.scalar(query) == 1\n"
    )
    shop.run().assert_outcomes(passed=1)


MIXED = """
import time

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy import text

NAMES = {"database": [], "transaction": []}

def look(db, db_session, isolation):
    assert db_session.scalar(text("SELECT to_regclass('mine')")) is None
    db_session.execute(text("CREATE TABLE mine ()"))
    db_session.commit()
    assert db.name not in NAMES["database"] and (db.name in NAMES["transaction"]) == (
        isolation == "transaction" and bool(NAMES["transaction"]))
    NAMES[isolation].append(db.name)
"""


@pytest.mark.parametrize("isolation", ["database", "transaction"])
def test_the_nearest_marker_decides(project: Project, isolation: str) -> None:
    """On a test, a class or a module, in both directions, whatever the project says, in one run."""
    other = {"database": "transaction", "transaction": "database"}[isolation]
    project.configure(f'migrator = "none"\nisolation = "{isolation}"')
    project.file("mixed.py", MIXED)
    project.tests(
        f"""
import time

import psycopg
import pytest
from sqlalchemy import make_url
from mixed import look
ISOLATION, OTHER = "{isolation}", "{other}"
def test_project(db, db_session): look(db, db_session, ISOLATION)
@pytest.mark.elefast(isolation=OTHER)
def test_marked(db, db_session): look(db, db_session, OTHER)
@pytest.mark.elefast(isolation=OTHER)
class TestMarked:
    def test_class(self, db, db_session): look(db, db_session, OTHER)
    @pytest.mark.elefast(isolation=ISOLATION)
    def test_back(self, db, db_session): look(db, db_session, ISOLATION)
    def test_again(self, db, db_session): look(db, db_session, OTHER)
def test_project_again(db, db_session): look(db, db_session, ISOLATION)
"""
    )
    project.file(
        "test_module.py",
        f"""
import time

import psycopg
import pytest
from sqlalchemy import make_url
from mixed import look
pytestmark = pytest.mark.elefast(isolation="{other}")
def test_module(db, db_session): look(db, db_session, "{other}")
@pytest.mark.elefast(isolation="{isolation}")
def test_marked(db, db_session): look(db, db_session, "{isolation}")
""",
    )
    project.run().assert_outcomes(passed=8)


def test_workers_have_a_database_each(shop: Project) -> None:
    """Unique values of one do not block the other."""
    shop.tests(
        HEAD
        + """
@pytest.mark.parametrize("n", range(12))
def test_it(db_session, n):
    assert db_session.scalar(COUNT) == 0
    db_session.add(Item(name="the only one"))
    db_session.commit()
"""
    )
    shop.run_apart("-n", "2").assert_outcomes(passed=12)


def test_classes_of_unittest(shop: Project) -> None:
    """By a fixture that is used by all of their tests."""
    shop.tests(
        HEAD
        + """
import unittest
class TestOld(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _session(self, db_session):
        self.session = db_session
    def setUp(self):
        self.session.add(Item(name="a"))
        self.session.commit()
    def test_one(self): self.assertEqual(self.session.scalar(COUNT), 1)
    def test_two(self): self.assertEqual(self.session.scalar(COUNT), 1)
"""
    )
    shop.run().assert_outcomes(passed=2)


def test_sessions_may_lie_in_each_other(shop: Project) -> None:
    """An application's session works while the test's own is open, and neither undoes the other."""
    shop.tests(
        HEAD
        + """
def test_one_that_only_reads_undoes_nothing(db, db_session):
    assert db_session.scalar(COUNT) == 0
    with db.session.__self__.sessionmaker.begin() as other:
        other.add(Item(name="a"))
    db_session.rollback()
    assert db_session.scalar(COUNT) == 1

def test_one_that_only_reads_may_end_first(db, db_session):
    assert db_session.scalar(COUNT) == 0
    with db.session() as other:
        other.add(Item(name="a"))
        other.flush()
        db_session.commit()
        other.rollback()
    assert db_session.scalar(COUNT) == 0

def test_the_first_may_be_committed_while_a_reader_is_open(db, db_session):
    db_session.add(Item(name="a"))
    db_session.flush()
    with db.session() as reader:
        assert reader.scalar(COUNT) == 1
        db_session.commit()
        assert reader.scalar(COUNT) == 1
        reader.rollback()
        assert reader.scalar(COUNT) == 1

def test_what_a_reader_writes_later_is_its_own(db, db_session):
    with db.session() as reader:
        assert reader.scalar(COUNT) == 0
        db_session.add(Item(name="a"))
        db_session.commit()
        reader.add(Item(name="b"))
        reader.flush()
        reader.rollback()
    assert db_session.scalar(COUNT) == 1

def test_an_error_of_one_does_not_stop_the_other(db, db_session):
    db_session.add(Item(name="a"))
    db_session.commit()
    with db.session() as other:
        with pytest.raises(IntegrityError):
            other.execute(text("INSERT INTO item (name) VALUES ('a')"))
        assert db_session.scalar(COUNT) == 1
        other.rollback()
    assert db_session.scalar(COUNT) == 1

def test_a_session_of_the_engine_joins(db, db_session):
    with Session(db.engine) as other, other.begin():
        other.add(Item(name="a"))
    assert db_session.scalar(COUNT) == 1

def test_what_the_test_has_not_committed_goes_with_the_test(db, db_session):
    db_session.add(Item(name="a"))
    db_session.flush()
    with db.session() as other:
        other.add(Item(name="b"))
        other.commit()
""".replace("db.session.__self__.sessionmaker", "db.sessionmaker")
    )
    shop.run().assert_outcomes(passed=7)


def test_listeners_hear_what_they_hear_otherwise(shop: Project) -> None:
    """Tests that count statements count the application's; and a listener is gone with its test."""
    shop.tests(
        HEAD
        + """
from sqlalchemy import event
HEARD = []
def test_it(db, db_session):
    for name in ("before_cursor_execute", "commit", "handle_error"):
        event.listen(db.engine, name, lambda *args, name=name: HEARD.append(name))
    db_session.add(Item(name="a"))
    db_session.commit()
    assert HEARD == ["before_cursor_execute", "commit"]
def test_next(db, db_session):
    with pytest.raises(IntegrityError):
        db_session.execute(text("INSERT INTO item (name) VALUES (NULL)"))
    assert HEARD == ["before_cursor_execute", "commit"]
"""
    )
    shop.run().assert_outcomes(passed=2)


def test_the_isolation_level_of_the_project_counts(project: Project) -> None:
    """The transaction is begun as the engine would."""
    configured(project, 'engine.options = {isolation_level = "REPEATABLE READ"}')
    project.tests(
        HEAD + "def test_it(db_session):\n"
        "    assert db_session.scalar(text('SHOW transaction_isolation')) == 'repeatable read'\n"
    )
    project.run().assert_outcomes(passed=1)


PATCHED = """
import os
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker

TEXT = "postgresql+psycopg://me@127.0.0.1:1/precious"
URL = make_url("postgresql+asyncpg://me@127.0.0.1:1/precious")
engine = create_engine(TEXT)
async_engine = create_async_engine(URL)
Maker = sessionmaker(engine, expire_on_commit=False)
AsyncMaker = async_sessionmaker(async_engine)
scoped = scoped_session(sessionmaker(engine))
"""


def test_the_application_is_led_to_the_transaction(project: Project) -> None:
    """Its makers are bound to it, its engine is for sessions, and its URLs lead nowhere."""
    names = ("TEXT", "URL", "engine", "async_engine", "Maker", "AsyncMaker", "scoped")
    targets = ", ".join(f'"outside:{name}"' for name in names)
    configured(project, f'patch = [{targets}]\nexport_env = ["DATABASE_URL"]')
    project.file("outside.py", PATCHED)
    project.tests(
        HEAD
        + """
import os
import outside
ENGINE, WHERE, BEFORE = outside.engine, os.environ["DATABASE_URL"], dict(outside.Maker.kw)
@pytest.mark.parametrize("n", range(2))
def test_it(db, db_session, n):
    with outside.Maker.begin() as session:
        session.add(Item(name="a"))
        assert session.join_transaction_mode == "create_savepoint"
        assert not outside.Maker.kw["expire_on_commit"]
    outside.scoped.add(Item(name="b"))
    outside.scoped.commit()
    with Session(outside.engine) as session:
        session.add(Item(name="c"))
        session.commit()
    assert db_session.scalar(COUNT) == 3
    outside.engine.dispose()
    assert db_session.scalar(COUNT) == 3
    with pytest.raises(Exception, match='isolation="database"'):
        outside.engine.connect()
    for url in (outside.TEXT, outside.URL):
        assert "isolation-is-transaction.elefast.invalid" in str(url)
    assert os.environ["DATABASE_URL"] == WHERE
    assert "request-the-db-fixture.elefast.invalid" in WHERE
def test_after():
    assert outside.engine is ENGINE and outside.Maker.kw == BEFORE and "precious" in outside.TEXT
"""
    )
    project.run().assert_outcomes(passed=3)


@pytest.mark.parametrize("endpoint", ["def", "async def"])
def test_an_application_with_an_overridden_session(shop: Project, endpoint: str) -> None:
    """FastAPI runs sync dependencies in threads; one after the other, that is no use of one connection by two."""
    shop.tests(
        HEAD
        + f"""
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient

app = FastAPI()

def session():
    raise NotImplementedError

@app.post("/items/{{name}}")
{endpoint} add(name: str, session: Session = Depends(session)):
    session.add(Item(name=name))
    try:
        session.commit()
    except IntegrityError:
        session.rollback()
        raise HTTPException(409)
    return session.scalar(COUNT)

@pytest.fixture(params=["its own", "the test's"])
def client(request, db, db_session):
    def own():
        with db.session() as session:
            yield session
    app.dependency_overrides[globals()["session"]] = own if request.param == "its own" else lambda: db_session
    with TestClient(app) as client:
        yield client

def test_it(client, db_session):
    assert db_session.scalar(COUNT) == 0
    assert client.post("/items/a").json() == 1
    assert client.post("/items/a").status_code == 409
    assert client.post("/items/b").json() == 2
    db_session.expire_all()
    assert db_session.scalar(COUNT) == 2
"""
    )
    shop.run_apart("-W", "ignore:Using").assert_outcomes(passed=2)


def test_a_database_that_an_earlier_run_has_left_may_have_had_sessions(project: Project) -> None:
    """The pool connects to databases before a test wants them; what was counted then is nobody's visit now."""
    tests = HEAD + "\n@pytest.mark.parametrize('n', range(3))\ndef test_it(db_session, n): db_session.scalar(COUNT)\n"
    configured(project, isolation="database").tests(tests)
    project.run().assert_outcomes(passed=3)
    url = make_url(project.server).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as control:
        left = [name for (name,) in control.execute("SELECT datname FROM pg_database WHERE datname ~ '^elefast_r'")]
        assert left
        for name in left:
            control.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
            psycopg.connect(url.set(database=name).render_as_string(hide_password=False)).close()
            control.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        # On PostgreSQL 14 they have to be counted; later versions do that at once.
        time.sleep(1 if control.info.server_version < 150000 else 0)
    configured(project, 'leaks = "error"').tests(tests)
    project.run().assert_outcomes(passed=3)

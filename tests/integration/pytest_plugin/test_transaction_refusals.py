"""What a transaction cannot isolate is refused, and what gets past it costs the database, not the next test."""

from __future__ import annotations

import pytest

from .conftest import PYTEST, Project
from .test_transaction import HEAD, configured

OWN = 'give the test a database of its own: @pytest.mark.elefast(isolation="database")'
REFUSED = """
from elefast.errors import RefusedError
OWN = 'give the test a database of its own: @pytest.mark.elefast(isolation="database")'
"""


@pytest.fixture
def shop(project: Project) -> Project:
    """A project whose tests are isolated by transactions."""
    return configured(project, 'leaks = "error"')


def test_a_connection_of_the_engine_is_refused(shop: Project) -> None:
    """However one asks for it; the message names the way out, and elefast's own lines are not in the traceback."""
    shop.tests(
        HEAD
        + """
from sqlalchemy import inspect
from app import Base
@pytest.mark.parametrize("ask", [
    lambda engine: engine.connect(),
    lambda engine: engine.begin().__enter__(),
    lambda engine: engine.execution_options(isolation_level="AUTOCOMMIT").connect(),
    lambda engine: Base.metadata.create_all(engine),
    lambda engine: inspect(engine),
    lambda engine: engine.raw_connection(),
    lambda engine: engine.pool.connect(),
])
def test_it(db, ask):
    ask(db.engine)
"""
    )
    result = shop.run()
    result.assert_outcomes(failed=7)
    result.stdout.fnmatch_lines(
        [
            '*engine.connect() is refused: with isolation = "transaction" a test has one connection, and a second one '
            "would see nothing of what it did.",
            f"*Use a session or the fixture db_connection or async_db_connection, or {OWN}",
        ]
    )
    result.stdout.no_fnmatch_line("*isolation*engine.py*")


def test_sync_and_async_in_one_test_are_refused(shop: Project) -> None:
    """Each kind would have a connection of its own; both views of one kind are one."""
    shop.tests(
        HEAD
        + """
def test_both(db, async_db): pass
def test_other_way(async_db_session, db_session): pass
def test_one(db, elefast_db, db_session, db_connection): assert db is elefast_db
"""
    )
    result = shop.run()
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            '*with isolation = "transaction" a test uses either sync or async sessions, since each kind would have a '
            "connection of its own; this one has sync ones already.",
            f"*Keep to the fixtures db* or to async_db*, or {OWN}",
        ]
    )


def test_two_threads_at_once_are_refused(project: Project) -> None:
    """One is kept waiting by a lock; the other is told so instead of being mixed up with it."""
    configured(project, 'leaks = "ignore"')
    project.tests(
        HEAD
        + REFUSED
        + """
import psycopg
from concurrent.futures import ThreadPoolExecutor
def wait(db):
    with db.session() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(1)"))
def test_it(db, db_session):
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(db.dsn, autocommit=True) as outside, ThreadPoolExecutor(1, "waiter") as pool:
        outside.execute("SELECT pg_advisory_lock(1)")
        try:
            running = pool.submit(wait, db)
            while not outside.execute(waiting).fetchone()[0]:
                assert not running.done(), running.result()
            with pytest.raises(RefusedError) as refused:
                db_session.scalar(COUNT)
        finally:
            outside.execute("SELECT pg_advisory_unlock(1)")
        running.result()
    first, second = str(refused.value).splitlines()
    assert first == (
        "thread waiter_0 and thread MainThread use the database at once, and with isolation = "
        '"transaction" a test has one connection.'
    )
    assert second == f"Let one wait for the other, or {OWN}"
    assert db_session.scalar(COUNT) == 0
"""
    )
    project.run().assert_outcomes(passed=1)


def test_sessions_that_cannot_be_told_apart_are_refused(shop: Project) -> None:
    """Two that wrote, of which the earlier one ends first; and one that would undo what another one committed."""
    shop.tests(
        HEAD
        + REFUSED
        + """
INSERT = text("INSERT INTO item (name) VALUES (:name)")

@pytest.fixture
def two(db):
    first, second = db.session(), db.session()
    first.execute(INSERT, {"name": "a"})
    second.execute(INSERT, {"name": "b"})
    yield first, second
    assert first.bind is db.engine

@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_earlier_one_ends_first(two, end):
    with pytest.raises(RefusedError) as refused:
        getattr(two[0], end)()
    what = {"commit": "is committed", "rollback": "is rolled back"}[end]
    assert str(refused.value) == (
        f"a session {what} while another one, which began later, has written and is still open; with isolation = "
        f'"transaction" both are in one transaction.\\nCommit or close the later one first, or {OWN}'
    )

def test_it_would_undo_the_other(two, db_session):
    two[1].commit()
    with pytest.raises(RefusedError) as refused:
        two[0].rollback()
    assert str(refused.value) == (
        "a session is rolled back after another one wrote or committed inside of it; with isolation = "
        '"transaction" both are in one transaction, so this would undo the other one as well.\\n'
        f"Commit before the other one begins, or {OWN}"
    )

def test_it_would_undo_what_the_earlier_one_wrote_later(two, db_session):
    two[0].execute(INSERT, {"name": "c"})
    with pytest.raises(RefusedError, match="would undo the other one"):
        two[1].rollback()

def test_a_savepoint_would_undo_the_other(db, db_session):
    with pytest.raises(RefusedError, match="would undo the other one"), db_session.begin_nested():
        db_session.execute(INSERT, {"name": "a"})
        with db.sessionmaker.begin() as other:
            other.execute(INSERT, {"name": "b"})
        raise KeyError

@pytest.mark.parametrize("to", ["ROLLBACK TO SAVEPOINT a", "ROLLBACK TO a", "rollback work to a;"])
def test_a_savepoint_in_sql_would_undo_the_other(db, db_session, to):
    db_session.execute(text("SAVEPOINT a"))
    with db.sessionmaker.begin() as other:
        other.execute(INSERT, {"name": "b"})
    with pytest.raises(RefusedError, match="would undo the other one"):
        db_session.execute(text(to))

def test_a_savepoint_between_them(two):
    with pytest.raises(RefusedError, match="a session uses a savepoint while another one"):
        two[0].begin_nested().__enter__()
        two[0].execute(INSERT, {"name": "c"})

def test_after(db_session):
    assert db_session.scalar(COUNT) == 0
"""
    )
    shop.run().assert_outcomes(passed=10)


def test_what_is_of_the_whole_transaction_is_refused(shop: Project) -> None:
    """Isolation level, access mode and commit in two phases."""
    shop.tests(
        HEAD
        + REFUSED
        + """
@pytest.mark.parametrize(("change", "what"), [
    (lambda connection: connection.execution_options(isolation_level="AUTOCOMMIT"), "isolation level"),
    (lambda connection: connection.execution_options(postgresql_readonly=True), "access mode"),
    (lambda connection: connection.begin_twophase(), "commit in two phases"),
])
def test_it(db_connection, change, what):
    with pytest.raises(RefusedError) as refused:
        change(db_connection)
    assert str(refused.value) == (
        f'with isolation = "transaction" all of a test is in one transaction, and its {what} is that one\\'s.\\n'
        f"Do without, or {OWN}"
    )
"""
    )
    shop.run().assert_outcomes(passed=3)


def test_dropping_what_all_share_is_refused(shop: Project) -> None:
    """By the test's own database, and by its name; the test goes on."""
    shop.tests(
        HEAD
        + REFUSED
        + """
def test_it(db, db_server, db_session):
    for drop in (db.drop, lambda: db_server.drop_database(db.name)):
        with pytest.raises(RefusedError, match="is not dropped: .* all tests share it"):
            drop()
    assert db_session.scalar(COUNT) == 0
"""
    )
    shop.run().assert_outcomes(passed=1)


def test_a_project_without_transactions_is_refused(project: Project) -> None:
    """There would be nothing to roll back."""
    configured(project, 'engine.options = {isolation_level = "AUTOCOMMIT"}')
    project.tests(HEAD + "def test_it(db_session): db_session.scalar(COUNT)")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['*isolation_level = "AUTOCOMMIT" in engine.options leaves nothing to roll back; *'])


def test_a_session_that_outlives_its_test_is_refused(shop: Project) -> None:
    """It must not get into the next test's transaction; closing it is no error."""
    shop.tests(
        HEAD
        + REFUSED
        + """
LEFT = []
def test_it(db):
    LEFT.append(db.session())
    LEFT[0].add(Item(name="a"))
    LEFT[0].flush()
def test_next(db_session):
    assert db_session.scalar(COUNT) == 0
    with pytest.raises(RefusedError) as refused:
        LEFT[0].scalar(COUNT)
    assert str(refused.value) == (
        "the transaction of test_it.py::test_it is over, and what it left has no connection any more"
    )
    LEFT.pop().close()
    assert db_session.scalar(COUNT) == 0
"""
    )
    shop.run().assert_outcomes(passed=2)


def test_keep_on_a_marker_is_refused(shop: Project) -> None:
    """There is nothing to keep; the nearer marker may do without."""
    shop.tests(
        HEAD
        + """
pytestmark = pytest.mark.elefast(keep="failed")
def test_it(db): pass
@pytest.mark.elefast(keep="never")
def test_other(db): pass
"""
    )
    result = shop.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            '*@pytest.mark.elefast of test_it.py  keep: with isolation = "transaction" all that a test wrote is rolled '
            'back, and there is nothing to keep; add isolation="database"'
        ]
    )


def test_keep_as_an_option_is_explained_where_a_test_fails(shop: Project) -> None:
    """With its error, and not with tests that pass."""
    shop.tests(HEAD + "def test_good(db): pass\ndef test_bad(db): assert False\n")
    result = shop.run("--elefast-keep")
    result.assert_outcomes(passed=1, failed=1)
    note = 'nothing is kept of this test: with isolation = "transaction" all that it wrote is rolled back.'
    assert result.stdout.lines.count(note) == 1


NOT_ALONE = "was not alone: another session was connected to the database that all tests share"
INTRUSIONS = {
    "commit": ('db_session.execute(text("COMMIT"))', "ended the transaction that it was in, with a COMMIT or ROLLBACK"),
    "rollback": ('db_session.execute(text("ROLLBACK"))', "ended the transaction that it was in, *"),
    "chain": ('db_session.execute(text("COMMIT AND CHAIN"))', "ended the transaction that it was in, *"),
    "driver": ("db_session.connection().connection.driver_connection.commit()", "ended the transaction that *"),
    "driver between transactions": (
        "raw = db_session.connection().connection.driver_connection; db_session.commit(); raw.commit()",
        "ended the transaction that *",
    ),
    "close": ("db_session.connection().connection.driver_connection.close()", "left its connection broken: *"),
    "kill": ('db_session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))', "left its connection *"),
    "copy": (
        'copy = db_session.connection().connection.cursor().copy("COPY item FROM STDIN"); '
        "COPIES.append((copy, copy.__enter__()))",
        "left a statement or a COPY running, which it sent through the driver",
    ),
    "session": ("write(db.dsn)", NOT_ALONE),
    "session that stays": ("STAYS.enter_context(psycopg.connect(db.dsn))", NOT_ALONE),
}
INTRUDER = (
    HEAD
    + """
import contextlib, psycopg
NAMES, COPIES = [], []
STAYS = contextlib.ExitStack()

@pytest.fixture(scope="session", autouse=True)
def until_the_end():
    with contextlib.suppress(psycopg.OperationalError), STAYS:
        yield
    for copy, _ in COPIES:  # here, because the garbage collector would report what psycopg 3.1 raises
        with contextlib.suppress(psycopg.OperationalError):
            copy.gen.close()

def write(dsn):
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO item (name) VALUES ('b')")

@pytest.fixture
def clean(db, db_session):
    assert db_session.scalar(COUNT) == 0
    assert db.name not in NAMES
    NAMES.append(db.name)
"""
)


@pytest.mark.parametrize("what", INTRUSIONS)
def test_the_next_test_has_a_fresh_database(shop: Project, request: pytest.FixtureRequest, what: str) -> None:
    """Where the test got past its transaction; it is named, with what it did."""
    if what == "session":
        request.getfixturevalue("counted_at_once")
    statement, words = INTRUSIONS[what]
    shop.tests(
        INTRUDER
        + f"""
def test_it(clean, db, db_session):
    db_session.execute(text("INSERT INTO item (name) VALUES ('a')"))
    with contextlib.suppress(DBAPIError):
        {statement}
def test_next(clean): pass
"""
    )
    result = shop.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            f"test_it.py::test_it {words}*: the database was thrown away, and the next test has a fresh one. Such a "
            'test needs a database of its own: @pytest.mark.elefast(isolation="database")'
        ]
    )


@pytest.mark.usefixtures("counted_at_once")
@pytest.mark.parametrize("leaks", ["warn", "ignore"])
def test_the_database_goes_whatever_is_said(project: Project, leaks: str) -> None:
    """Also where the test itself has no session, in whatever order; and only where it must."""
    configured(project)
    project.configure(
        f'migrator = "sql"\nsql.files = ["schema.sql"]\nisolation = "transaction"\nleaks = "{leaks}"',
        pytest_table=PYTEST.replace('["error"]', '["default"]'),
    )
    project.tests(
        INTRUDER
        + """
def test_first(db): write(db.dsn)
def test_second(clean, db): write(db.dsn)
def test_third(clean, db): pass
def test_fourth(db, db_session): assert db.name == NAMES[-1] and db_session.scalar(COUNT) == 0
def test_fifth(db): write(db.dsn)
def test_sixth(clean): pass
"""
    )
    result = project.run()
    result.assert_outcomes(passed=6, warnings=3 if leaks == "warn" else 0)
    said = [line for line in result.stdout.lines if "LeakWarning: test_it.py::" in line]
    assert [line.split("::")[1].split()[0] for line in said] == (
        ["test_first", "test_second", "test_fifth"] if leaks == "warn" else []
    )


def test_who_came_and_went_is_noticed_a_second_later_at_the_latest(shop: Project) -> None:
    """On every version: of PostgreSQL 14 the test that runs then is named, and what follows has a fresh database."""
    shop.tests(
        INTRUDER
        + """
import time
def test_zero(db_session): db_session.scalar(COUNT)
def test_first(db): write(db.dsn); time.sleep(0.2)
def test_second(db): time.sleep(1.5)
def test_third(clean): pass
"""
    )
    result = shop.run()
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines([f"test_it.py::test_* {NOT_ALONE}*: the database was thrown away*"])


@pytest.mark.usefixtures("counted_at_once")
def test_what_is_said_comes_after_the_tests_own_error(shop: Project) -> None:
    """Both are shown."""
    shop.tests(INTRUDER + "def test_it(clean, db):\n    write(db.dsn)\n    assert False, 'my own error'\n")
    result = shop.run()
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*my own error*"])
    result.stdout.fnmatch_lines(["test_it.py::test_it was not alone: *"])

"""Snapshots in tests: the engines of the application, and the ways in which tests cannot have one."""

from __future__ import annotations

from .conftest import Project


def test_patched_engines_connect_again(project: Project) -> None:
    """Their idle connections are closed for it without a warning, and they lead to the restored database."""
    project.configure('migrator = "none"\npatch = ["app:engine", "app:pooled"]')
    project.file(
        "app.py",
        "from sqlalchemy import create_engine\n"
        "engine = create_engine('postgresql+psycopg://x/y')\n"
        "pooled = create_engine('postgresql+psycopg://x/y', pool_size=1, max_overflow=0)\n",
    )
    project.tests("""
import app
from sqlalchemy import text

def test_it(db):
    for engine in (app.engine, app.pooled, db.engine):
        with engine.begin() as connection:
            connection.execute(text("create table if not exists kept ()"))
    snapshot = db.snapshot()
    for _ in range(4):
        for engine in (app.engine, app.pooled, db.engine):
            with engine.begin() as connection:
                assert connection.scalar(text("select to_regclass('lost')")) is None
                assert connection.scalar(text("select to_regclass('kept')")) == "kept"
        with app.pooled.begin() as connection:
            connection.execute(text("create table lost ()"))
        db.restore(snapshot)

def test_next(db):
    for engine in (app.engine, app.pooled):
        with engine.begin() as connection:
            assert connection.scalar(text("select current_database()")) == db.name
            assert connection.scalar(text("select to_regclass('kept')")) is None
""")
    project.run().assert_outcomes(passed=2)


def test_in_a_transaction(project: Project) -> None:
    """The error names the marker that helps."""
    project.configure('migrator = "none"\nisolation = "transaction"')
    project.tests("""
import pytest
from elefast.errors import RefusedError

def test_it(db):
    with pytest.raises(RefusedError, match='isolation="database"'):
        db.snapshot()

@pytest.mark.elefast(isolation="database")
def test_marked(db):
    db.restore(db.snapshot())

@pytest.mark.elefast(scope="module")
def test_shared(db):
    db.restore(db.snapshot())
""")
    project.run().assert_outcomes(passed=3)

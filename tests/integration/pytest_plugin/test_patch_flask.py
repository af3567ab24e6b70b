"""`patch` of Flask-SQLAlchemy's extension: every bind keeps its own engine and options, and leads to the test."""

from __future__ import annotations

import pytest

from .conftest import Project

APP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.pool import NullPool

db = SQLAlchemy()
URL = "postgresql+psycopg://me@127.0.0.1:1/precious"
NAME = text("SELECT current_database()")

class Item(db.Model):
    id = db.Column(db.Integer, primary_key=True)

class Report(db.Model):
    __bind_key__ = "reader"
    id = db.Column(db.Integer, primary_key=True)

def create_app():
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = URL
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 3}
    app.config["SQLALCHEMY_BINDS"] = {
        "reader": {"url": URL, "poolclass": NullPool, "isolation_level": "AUTOCOMMIT"},
        "files": "sqlite://",
    }
    db.init_app(app)
    return app

def use():
    assert db.engine.pool.size() == 3
    assert isinstance(db.engines["reader"].pool, NullPool)
    with db.engines["reader"].connect() as connection:
        assert connection.connection.driver_connection.autocommit
        yield connection.scalar(NAME)
    with db.engines["files"].connect() as connection: assert connection.scalar(text("SELECT 1")) == 1
    db.engines["files"].dispose()  # Python 3.13 warns of a connection to SQLite that is left to the garbage collector
    assert db.engines["files"].dialect.name == "sqlite"
    yield db.session.scalar(NAME)
    db.session.execute(text("CREATE TABLE item (id serial); CREATE TABLE report (id serial)"))
    db.session.commit()
    db.session.add_all([Item(), Report()])
    db.session.commit()
    assert db.session.query(Item).count() == db.session.query(Report).count() == 1
"""


@pytest.fixture
def flask(project: Project) -> Project:
    """A project with an application factory and three binds."""
    pytest.importorskip("flask_sqlalchemy")
    project.configure('patch = ["shop:db"]')
    project.file("shop.py", APP)
    return project


TESTS = {
    "module": "APP = shop.create_app()\n"
    "@pytest.mark.parametrize('n', range(2))\n"
    "def test_it(db, n):\n"
    "    with APP.app_context(): assert set(shop.use()) == {db.name}\n",
    "fixture": "@pytest.fixture\n"
    "def client(db): return shop.create_app()\n"
    "@pytest.mark.parametrize('n', range(2))\n"
    "def test_it(db, client, n):\n"
    "    with client.app_context(): assert set(shop.use()) == {db.name}\n",
    "session": "@pytest.fixture(scope='session', autouse=True)\n"
    "def app():\n"
    "    app = shop.create_app()\n"
    "    with app.app_context(): yield app\n"
    "@pytest.mark.parametrize('n', range(2))\n"
    "def test_it(db, n): assert set(shop.use()) == {db.name}\n",
}


@pytest.mark.parametrize("made", TESTS)
def test_each_bind_leads_to_the_test_with_its_own_options(flask: Project, made: str) -> None:
    """Whether the application is made at import, by a factory for each test, or once with a context that stays."""
    flask.tests(
        "import pytest, shop\n"
        "from elefast.errors import RefusedError\n"
        f"{TESTS[made]}"
        "def test_after():\n"
        "    with shop.create_app().app_context(), pytest.raises(RefusedError, match='shop:db was asked'):\n"
        "        shop.db.session.scalar(shop.NAME)\n"
    )
    flask.run("-W", "ignore::DeprecationWarning").assert_outcomes(passed=3)


def test_with_a_transaction_its_sessions_share_it(flask: Project) -> None:
    """What a request commits is rolled back with the test."""
    flask.configure('isolation = "transaction"\npatch = ["shop:db"]')
    flask.tests(
        "import pytest, shop\n"
        "from sqlalchemy import text\n"
        "APP = shop.create_app()\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(db_session, n):\n"
        "    db_session.execute(text('CREATE TABLE item (id serial)')); db_session.commit()\n"
        "    with APP.app_context():\n"
        "        shop.db.session.add(shop.Item()); shop.db.session.commit()\n"
        "    assert db_session.scalar(text('SELECT count(*) FROM item')) == 1\n"
    )
    flask.run("-W", "ignore::DeprecationWarning").assert_outcomes(passed=2)

"""`patch`: what the application has at module level leads to the test's database, whatever it is."""

from __future__ import annotations

import pytest

from .conftest import Project

APP = """
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker

TEXT = "postgresql+psycopg2://me@127.0.0.1:1/precious"
URL = make_url("postgresql+asyncpg://me@127.0.0.1:1/precious")
engine = create_engine(TEXT)
async_engine = create_async_engine(URL)
Session = sessionmaker(engine, expire_on_commit=False)
AsyncSession = async_sessionmaker(async_engine)
scoped = scoped_session(sessionmaker(engine))
unbound = sessionmaker()
number = 7
words = "no url"

class Settings:
    url = TEXT
settings = Settings()
"""

CASES = {
    "engine": "with app.engine.connect() as connection: assert connection.scalar(NAME) == db.name\n"
    "    assert app.engine is ENGINE and app.engine.url.database == db.name\n"
    "    assert app.engine.url.drivername == 'postgresql+psycopg2'",
    "async_engine": "assert asyncio.run(ask(app.async_engine)) == db.name and app.async_engine.url.database == db.name",
    "Session": "assert app.Session is SESSION and not app.Session.kw['expire_on_commit']\n"
    "    with app.Session() as session: assert session.scalar(NAME) == db.name",
    "unbound": "with app.unbound() as session: assert session.scalar(NAME) == db.name",
    "AsyncSession": "assert asyncio.run(ask(app.AsyncSession.kw['bind'])) == db.name",
    "scoped": "assert app.scoped.scalar(NAME) == db.name",
    "URL": "assert (app.URL.drivername, app.URL.database) == ('postgresql+asyncpg', db.name)",
    "TEXT": "url = make_url(app.TEXT)\n"
    "    assert (url.drivername, url.database, url.password) == ('postgresql+psycopg2', db.name, db.url.password)\n"
    "    with app.engine.connect() as connection: assert connection.scalar(NAME) == db.name",
    "settings.url": "assert make_url(app.settings.url).database == db.name",
}


@pytest.fixture
def app(project: Project) -> Project:
    """A project with an application that has one of everything."""
    project.file("app.py", APP)
    return project


@pytest.mark.parametrize("name", CASES)
def test_each_kind_leads_to_the_test_and_back(app: Project, name: str) -> None:
    """During a test with a database it leads there; before and after, it is what it was."""
    app.configure(f'patch = ["app:{name}"]')
    app.tests(
        "import asyncio\n"
        "import app\n"
        "from sqlalchemy import make_url, text\n"
        "NAME, SESSION, ENGINE = text('SELECT current_database()'), app.Session, app.engine\n"
        "def look(): return [app.TEXT, app.URL, app.engine, app.async_engine, app.settings.url, app.unbound.kw,\n"
        "    app.Session.kw['bind'], app.AsyncSession.kw['bind'], app.scoped.session_factory.kw['bind']]\n"
        "BEFORE = look()\n"
        "async def ask(engine):\n"
        "    async with engine.connect() as connection: return await connection.scalar(NAME)\n"
        "def test_before(): assert look() == BEFORE\n"
        "def test_it(db, async_db):\n"
        f"    {CASES[name]}\n"
        f"def test_again(db, async_db):\n"
        f"    {CASES[name]}\n"
        "def test_after():\n"
        "    assert look() == BEFORE\n"
        "    assert not app.scoped.registry.has()\n"
    )
    app.run().assert_outcomes(passed=4)


def test_a_session_from_before_is_removed(app: Project) -> None:
    """A scoped session that was made at import belongs to another database."""
    app.configure('patch = ["app:scoped"]')
    app.tests(
        "import app\n"
        "from sqlalchemy import text\n"
        "app.scoped()\n"
        "def test_it(db): assert app.scoped.scalar(text('SELECT current_database()')) == db.name\n"
    )
    app.run().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("app:number", "expected an Engine, *, found builtins.int"),
        ("app:create_engine", "expected an Engine, *, found builtins.function"),
        ("app:words", "expected a URL, found a string that is none"),
        ("app:engin", "app has no attribute 'engin'"),
        ("app:settings.uri", "app.settings has no attribute 'uri'"),
        ("ap:engine", "there is no module 'ap'; *pythonpath*"),
    ],
)
def test_what_cannot_be_patched_is_an_error(app: Project, target: str, message: str) -> None:
    """It names the key, its place and what was found; tests without a database do not care."""
    app.configure(f'patch = ["{target}"]')
    app.tests("def test_other(): pass\ndef test_it(db): pass")
    result = app.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f'*pyproject.toml:3  patch: "{target}": {message}'])
    result.stdout.no_fnmatch_line("*template *")


def test_a_module_that_fails_at_import_shows_its_own_traceback(app: Project) -> None:
    """The reason is in the application, so that is what one has to see."""
    app.configure('patch = ["bad:engine"]')
    app.file("bad.py", "def start():\n    raise RuntimeError('no luck')\nstart()\n")
    app.tests("def test_it(db): pass")
    result = app.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*importing bad failed*", "*bad.py*line 3*", "*RuntimeError: no luck*"])
    result.stdout.no_fnmatch_line("*pytest_plugin*")


def test_a_module_is_imported_for_the_first_test_that_needs_it(project: Project) -> None:
    """Its engine leads to the test, though the variable that it was made from led nowhere at that time."""
    project.configure('export_env = ["DATABASE_URL"]\npatch = ["late:engine"]')
    project.file(
        "late.py", "import os\nfrom sqlalchemy import create_engine\nengine = create_engine(os.environ['DATABASE_URL'])"
    )
    project.tests(
        "import sys\n"
        "def test_other(): assert 'late' not in sys.modules\n"
        "def test_it(db): assert sys.modules['late'].engine.url.database == db.name\n"
    )
    project.run().assert_outcomes(passed=2)


def test_what_was_patched_is_given_back_if_a_later_target_fails(app: Project) -> None:
    """An error halfway leaves nothing changed, and the database is released."""
    app.configure('patch = ["app:engine", "app:number"]')
    app.tests("import app\nENGINE = app.engine\ndef test_it(db): pass\ndef test_after(): assert app.engine is ENGINE\n")
    app.run().assert_outcomes(passed=1, errors=1)

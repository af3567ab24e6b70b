"""Applications that keep an engine or a URL from one test to the next: `patch` renews it, or the next test fails."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from .conftest import Project

APP = """
import functools, os
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

@functools.lru_cache
def get_engine(): return create_engine(os.environ["DATABASE_URL"])

@functools.cache
def get_maker(): return sessionmaker(get_engine())

@functools.lru_cache
def get_url(): return os.environ["DATABASE_URL"]

@functools.cache
def get_named(name): return create_engine(os.environ["DATABASE_URL"])

class Container:
    @functools.cached_property
    def engine(self): return create_engine(os.environ["DATABASE_URL"])
container = Container()

_engine = None
def lazy():
    global _engine
    if _engine is None:
        _engine = create_engine(os.environ["DATABASE_URL"])
    return _engine

def name(bind):
    with bind.begin() as connection:
        connection.execute(text("CREATE TABLE item (id int)"))
        return connection.scalar(text("SELECT current_database()"))
"""

USES = {
    "get_engine": "app.name(app.get_engine())",
    "get_maker": "app.name(app.get_maker().kw['bind'])",
    "get_url": "app.name(app.create_engine(app.get_url(), poolclass=app.NullPool))",
    "get_named": "app.name(app.get_named('main'))",
    "container.engine": "app.name(app.container.engine)",
    "_engine": "app.name(app.lazy())",
}


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect connections that elefast has ended between the inner runs, and not while one reports a failure.

    SQLAlchemy logs each of them with a traceback. Where that happens while pytest parses source for a report, CPython
    before 3.11.8 and 3.12.2 fails with "AST constructor recursion depth mismatch" (gh-106905).
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def app(project: Project) -> Project:
    """A project with an application that keeps engines in several ways."""
    project.file("app.py", f"from sqlalchemy.pool import NullPool\n{APP}")
    return project


@pytest.mark.parametrize("target", USES)
def test_what_is_cached_is_renewed_for_each_test(app: Project, target: str) -> None:
    """Each test has its own database, and nothing stays connected to it."""
    targets = {"get_maker": ["app:get_engine", "app:get_maker"]}.get(target, [f"app:{target}"])
    app.configure(f'export_env = ["DATABASE_URL"]\nleaks = "error"\npatch = {targets}')
    app.tests(
        "import app, pytest\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        f"def test_it(db, n): assert {USES[target]} == db.name\n"
    )
    app.run().assert_outcomes(passed=3)


@pytest.mark.parametrize("target", USES)
def test_what_is_kept_and_not_patched_fails_the_next_test(app: Project, target: str) -> None:
    """It never has the other test's rows, and the message says what keeps the connection."""
    app.configure('export_env = ["DATABASE_URL"]\nleaks = "ignore"')
    app.tests(f"import app\ndef test_one(db): {USES[target]}\ndef test_two(db): {USES[target]}\n")
    result = app.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Name the object that keeps it in `patch`*"])
    if target not in ("get_url", "get_maker"):  # nothing keeps the engine; two functions do
        place = {"container.engine": "container"}.get(target, target)
        result.stdout.fnmatch_lines([f"*the database of test_it.py::test_one, which is over: app:{place} has*"])


def test_an_error_that_the_application_swallows_fails_the_test_all_the_same(app: Project) -> None:
    """A handler of exceptions must not hide that the test saw nothing."""
    app.configure('export_env = ["DATABASE_URL"]\nleaks = "ignore"')
    app.tests(
        "import app\n"
        "def test_one(db): app.name(app.get_engine())\n"
        "def test_two(db):\n"
        "    try: app.name(app.get_engine())\n"
        "    except Exception: pass\n"
    )
    result = app.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the application is still connected to the database of test_it.py::test_one*"])


@pytest.mark.parametrize("what", ["connection", "session", "transaction"])
def test_a_connection_that_is_kept_open_serves_no_other_test(app: Project, what: str) -> None:
    """No pool is asked for it, so its statements are refused."""
    app.configure('export_env = ["DATABASE_URL"]\nleaks = "ignore"')
    opened = {
        "connection": "app.get_engine().connect()",
        "session": "app.Session(app.get_engine())",
        "transaction": "app.get_engine().connect()",
    }[what]
    begin = "KEPT[0].begin(); " if what == "transaction" else ""
    app.tests(
        "import app\nKEPT = []\n"
        "def test_one(db):\n"
        f"    KEPT.append({opened})\n"
        f"    {begin}assert KEPT[0].scalar(app.text('SELECT current_database()')) == db.name\n"
        "def test_two(db): KEPT[0].scalar(app.text('SELECT 1'))\n"
        "def test_without(): KEPT[0].execute(app.text('SELECT 1'))\n"
    )
    result = app.run()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*RefusedError: the application is still connected to the database of*test_one*"] * 2)


def test_the_engine_of_a_test_serves_no_other_test(app: Project) -> None:
    """Also elefast's own: a fixture of wider scope, or a global of the tests, may keep it."""
    app.configure('leaks = "ignore"')
    app.tests(
        "KEPT = []\n"
        "def test_one(db): KEPT.append(db.engine); KEPT[0].connect().close()\n"
        "def test_two(db): KEPT[0].connect()\n"
    )
    result = app.run()
    result.assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize("kind", ["pooled", "null"])
def test_async_engines_are_kept_from_other_tests_as_well(app: Project, kind: str) -> None:
    """With a pool and without, in a loop that goes on and in a new one."""
    pool = ", poolclass=NullPool" if kind == "null" else ""
    app.file(
        "aio.py",
        "import functools, os\n"
        "from sqlalchemy import text\n"
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "from sqlalchemy.pool import NullPool\n"
        "@functools.lru_cache\n"
        f"def get_engine(): return create_async_engine(os.environ['DATABASE_URL']{pool})\n"
        "async def name():\n"
        "    async with get_engine().connect() as connection:\n"
        "        return await connection.scalar(text('SELECT current_database()'))\n",
    )
    tests = (
        "import aio, asyncio, pytest\n"
        "@pytest.mark.asyncio(loop_scope='module')\n"
        "async def test_one(async_db): assert await aio.name() == async_db.name\n"
        "@pytest.mark.asyncio(loop_scope='module')\n"
        "async def test_two(async_db): assert await aio.name() == async_db.name\n"
        "def test_three(db): assert asyncio.run(aio.name()) == db.name\n"
    )
    app.tests(tests)
    app.configure('export_env = ["DATABASE_URL=postgresql+asyncpg"]\nleaks = "ignore"')
    result = app.run("-W", "ignore")
    result.assert_outcomes(passed=1, failed=2)
    app.configure('export_env = ["DATABASE_URL=postgresql+asyncpg"]\npatch = ["aio:get_engine"]\nleaks = "error"')
    app.run().assert_outcomes(passed=3)


def test_an_async_function_with_a_cache_is_cleared(app: Project) -> None:
    """It is not called before the test, because there is no loop."""
    app.file(
        "aio.py",
        "import os\n"
        "class Cached:\n"
        "    def __init__(self, function): self.function, self.__wrapped__, self.kept = function, function, []\n"
        "    def cache_clear(self): self.kept.clear()\n"
        "    async def __call__(self):\n"
        "        if not self.kept: self.kept.append(await self.function())\n"
        "        return self.kept[0]\n"
        "@Cached\n"
        "async def get_url(): return os.environ['DATABASE_URL']\n",
    )
    app.configure('export_env = ["DATABASE_URL"]\npatch = ["aio:get_url"]')
    app.tests(
        "import aio, pytest\n"
        "@pytest.mark.asyncio\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "async def test_it(async_db, n): assert async_db.name in await aio.get_url()\n"
        "def test_after(): assert not aio.get_url.kept\n"
    )
    app.run().assert_outcomes(passed=3)


def test_a_cached_function_without_export_env(app: Project) -> None:
    """What it gives is led to the test, and is kept between tests, because it leads nowhere there."""
    app.file("app.py", APP.replace('os.environ["DATABASE_URL"]', '"postgresql+psycopg://me@127.0.0.1:1/precious"'))
    app.configure('patch = ["app:get_engine"]')
    app.tests(
        "import app, pytest\n"
        "from elefast.errors import RefusedError\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(db, n): assert app.name(app.get_engine()) == db.name\n"
        "def test_after():\n"
        "    with pytest.raises(RefusedError): app.get_engine().connect()\n"
    )
    app.run().assert_outcomes(passed=3)


def test_a_cached_function_that_reads_no_exported_variable(app: Project) -> None:
    """`export_env` may be for something else, so it does not decide whether the engine leads nowhere between tests."""
    app.file("app.py", APP.replace('os.environ["DATABASE_URL"]', '"postgresql+psycopg://me@127.0.0.1:1/precious"'))
    app.configure('export_env = ["OTHER_URL"]\npatch = ["app:get_engine"]')
    app.tests(
        "import app, importlib, pytest\n"
        "from elefast.errors import RefusedError\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "def test_it(db, n): assert app.name(app.get_engine()) == db.name\n"
        "def test_after():\n"
        "    with pytest.raises(RefusedError): app.get_engine().connect()\n"
        "def test_reloaded(db): assert app.name(importlib.reload(app).get_engine()) == db.name\n"
        "def test_after_that():\n"
        "    with pytest.raises(RefusedError): app.get_engine().connect()\n"
    )
    app.run().assert_outcomes(passed=5)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("get_url", "gives the URL of another database than the test's; name the variable * in export_env"),
        ("_engine", "is None, so the application makes it later, *name the variable * in export_env"),
        ("fails", "calling app:fails failed*"),
    ],
)
def test_what_elefast_cannot_lead_is_an_error(app: Project, target: str, message: str) -> None:
    """It would lead to the developer's database."""
    app.file(
        "app.py",
        APP.replace('os.environ["DATABASE_URL"]', '"postgresql+psycopg://me:secret@127.0.0.1:1/precious"')
        + "\n@functools.cache\ndef fails(): raise KeyError('no luck')\n",
    )
    app.configure(f'patch = ["app:{target}"]')
    app.tests("def test_it(db): pass\n")
    result = app.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f'*pyproject.toml:3  patch: "app:{target}": {message}'])
    result.stdout.no_fnmatch_line("*secret*")
    result.stdout.no_fnmatch_line("*pytest_plugin*")

"""The marker's `scope`: which tests share a database, and that no other test has it."""

from __future__ import annotations

import textwrap

import psycopg
import pytest

from tests.robustness.companions.test_forks import FORKED

from .conftest import PYTEST, Project

NOTES = """
import os
import pytest
from sqlalchemy import create_engine, text

def add(engine, body):
    with engine.begin() as connection:
        connection.execute(text("create table if not exists note (body text)"))
        connection.execute(text("insert into note values (:body)"), {"body": body})

def notes(engine):
    with engine.connect() as connection:
        if connection.scalar(text("select to_regclass('note')")) is None:
            return []
        return list(connection.scalars(text("select body from note order by body")))
"""
"""A module that test modules of these projects import."""

MODULE_SCOPE = 'pytestmark = pytest.mark.elefast(scope="module")\n'


def _project(project: Project, tests: str, elefast: str = 'migrator = "none"') -> None:
    project.configure(elefast)
    project.file("notes.py", NOTES)
    project.tests("from notes import *\n" + textwrap.dedent(tests))


def _left(project: Project) -> list[str]:
    """Databases of runs that are on the server."""
    with psycopg.connect(project.server.replace("+psycopg", "")) as connection:
        return [name for (name,) in connection.execute("select datname from pg_database where datname ~ '^elefast_d'")]


def test_a_module_shares_one_database_in_order(project: Project) -> None:
    """What one test commits, the next one sees; another module has another database."""
    tests = """
        pytestmark = pytest.mark.elefast(scope="module")

        def test_first(db):
            assert notes(db.engine) == []
            add(db.engine, "first")

        @pytest.mark.parametrize("number", range(3))
        def test_next(db, db_session, number):
            assert len(notes(db.engine)) == 1 + number
            add(db.engine, "next")

        class TestInside:
            def test_last(self, db_connection):
                assert db_connection.scalar(text("select count(*) from note")) == 4
    """
    _project(project, tests)
    project.file("test_other.py", (project.path / "test_it.py").read_text())
    project.run().assert_outcomes(passed=10)
    assert not _left(project)


def test_each_scope(project: Project) -> None:
    """Class, package and session; a function without a class is alone in its class scope."""
    _project(
        project,
        """
        @pytest.mark.elefast(scope="class")
        class TestClass:
            def test_one(self, db):
                assert notes(db.engine) == []
                add(db.engine, "class")
            def test_two(self, db):
                assert notes(db.engine) == ["class"]

        @pytest.mark.elefast(scope="class")
        class TestOther:
            def test_one(self, db):
                assert notes(db.engine) == []

        @pytest.mark.elefast(scope="class")
        @pytest.mark.parametrize("number", [1, 2])
        def test_alone(db, number):
            assert notes(db.engine) == []
            add(db.engine, "x")

        @pytest.mark.elefast(scope="session")
        def test_session(db):
            add(db.engine, "session")

        @pytest.mark.elefast(scope="package")
        def test_package(db):
            add(db.engine, "package")
        """,
    )
    project.file(
        "test_later.py",
        "from notes import *\n"
        '@pytest.mark.elefast(scope="session")\n'
        'def test_session(db): assert notes(db.engine) == ["session"]\n'
        '@pytest.mark.elefast(scope="package")\n'
        'def test_package(db): assert notes(db.engine) == ["package"]\n'
        '@pytest.mark.elefast(scope="function")\n'
        "def test_function(db): assert notes(db.engine) == []\n",
    )
    project.file(
        "sub/test_below.py",
        "from notes import *\n"
        + MODULE_SCOPE.replace("module", "package")
        + "def test_package(db): assert notes(db.engine) == []\n",
    )
    project.run().assert_outcomes(passed=11)
    assert not _left(project)


def test_fixtures_of_the_scope_use_it(project: Project) -> None:
    """`export_env` is in force for the set-up, the tests and the teardown of a module's fixture."""
    _project(
        project,
        """
        pytestmark = pytest.mark.elefast(scope="module")

        @pytest.fixture(scope="module")
        def client():
            engine = create_engine(os.environ["DATABASE_URL"])
            add(engine, "set-up")
            yield engine
            assert os.environ["DATABASE_URL"] == engine.url.render_as_string(hide_password=False)
            assert notes(engine) == ["set-up", "test"]
            engine.dispose()

        def test_client(client):
            assert notes(client) == ["set-up"]
            add(client, "test")

        def test_both(client, db):
            assert client.url.database == db.name
            assert notes(db.engine) == notes(client) == ["set-up", "test"]
            db.engine.dispose()
        """,
        'migrator = "none"\nexport_env = ["DATABASE_URL"]',
    )
    project.run().assert_outcomes(passed=2)


def test_patched_engines_lead_to_it(project: Project) -> None:
    """A module's fixture may use an engine that `patch` names; tests of their own have theirs in between."""
    project.file("app.py", "from sqlalchemy import create_engine\nengine = create_engine('postgresql+psycopg://x/y')\n")
    _project(
        project,
        """
        import app

        @pytest.fixture(scope="module")
        def filled():
            add(app.engine, "filled")

        @pytest.mark.elefast(scope="module")
        def test_first(filled, db):
            assert notes(app.engine) == notes(db.engine) == ["filled"]

        def test_alone(db):
            assert notes(app.engine) == notes(db.engine) == []
            add(app.engine, "alone")

        def test_nothing():
            with pytest.raises(Exception, match="while no test has it"):
                app.engine.connect()

        @pytest.mark.elefast(scope="module")
        def test_last(db):
            assert notes(app.engine) == notes(db.engine) == ["filled"]
        """,
        'migrator = "none"\npatch = ["app:engine"]',
    )
    project.run().assert_outcomes(passed=4)


def test_other_tests_never_have_it(project: Project) -> None:
    """Neither by the variables, nor in a transaction; the scope goes on afterwards."""
    _project(
        project,
        """
        shared = pytest.mark.elefast(scope="session")

        @shared
        def test_first(db):
            add(db.engine, "shared")

        def test_without():
            assert "elefast.invalid" in os.environ["DATABASE_URL"]

        @pytest.mark.elefast(isolation="transaction")
        def test_transaction(db_session):
            assert "elefast.invalid" in os.environ["DATABASE_URL"]
            assert db_session.scalar(text("select to_regclass('note')")) is None

        def test_database(db):
            assert db.name in os.environ["DATABASE_URL"]
            assert notes(db.engine) == []

        @pytest.mark.elefast(scope="module")
        def test_module(db):
            assert db.name in os.environ["DATABASE_URL"]
            assert notes(db.engine) == []

        @shared
        def test_last(db):
            assert db.name in os.environ["DATABASE_URL"]
            assert notes(db.engine) == ["shared"]
        """,
        'migrator = "none"\nexport_env = ["DATABASE_URL"]',
    )
    project.run().assert_outcomes(passed=6)
    assert not _left(project)


def test_async_in_wider_loops(project: Project) -> None:
    """pytest-asyncio with a loop for the module, an async client of the module, and both views."""
    _project(
        project,
        """
        import pytest_asyncio
        from sqlalchemy.ext.asyncio import create_async_engine

        pytestmark = [pytest.mark.elefast(scope="module"), pytest.mark.asyncio(loop_scope="module")]

        @pytest_asyncio.fixture(scope="module", loop_scope="module")
        async def client():
            engine = create_async_engine(os.environ["DATABASE_URL"])
            async with engine.begin() as connection:
                await connection.execute(text("create table note (body text)"))
            yield engine
            await engine.dispose()

        async def test_one(client, async_db_session):
            async_db_session.add
            await async_db_session.execute(text("insert into note values ('one')"))
            await async_db_session.commit()

        async def test_two(client, async_db, db):
            async with client.connect() as connection:
                assert await connection.scalar(text("select body from note")) == "one"
            async with async_db.engine.connect() as connection:
                assert await connection.scalar(text("select body from note")) == "one"
            assert notes(db.engine) == ["one"]
        """,
        'migrator = "none"\nexport_env = ["DATABASE_URL=postgresql+asyncpg"]',
    )
    project.run().assert_outcomes(passed=2)


def test_anyio(project: Project) -> None:
    """anyio keeps one loop for a module whose fixture is async."""
    _project(
        project,
        """
        from sqlalchemy.ext.asyncio import create_async_engine

        pytestmark = [pytest.mark.elefast(scope="module"), pytest.mark.anyio]

        @pytest.fixture(scope="module")
        def anyio_backend():
            return "asyncio"

        @pytest.fixture(scope="module")
        async def client(anyio_backend):
            engine = create_async_engine(os.environ["DATABASE_URL"])
            async with engine.begin() as connection:
                await connection.execute(text("create table note (body text)"))
            yield engine
            await engine.dispose()

        async def test_one(client, async_db):
            async with async_db.engine.begin() as connection:
                await connection.execute(text("insert into note values ('one')"))

        async def test_two(client):
            async with client.connect() as connection:
                assert await connection.scalar(text("select body from note")) == "one"
        """,
        'migrator = "none"\nexport_env = ["DATABASE_URL=postgresql+asyncpg"]',
    )
    project.run("-p", "anyio").assert_outcomes(passed=2)


def test_unittest_classes(project: Project) -> None:
    """`setUpClass` is part of the scope."""
    _project(
        project,
        """
        import unittest

        @pytest.mark.elefast(scope="class")
        class TestIt(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.engine = create_engine(os.environ["DATABASE_URL"])
                add(cls.engine, "class")

            @classmethod
            def tearDownClass(cls):
                assert notes(cls.engine) == ["class", "one"]
                cls.engine.dispose()

            def test_one(self):
                add(self.engine, "one")

            def test_two(self):
                assert notes(self.engine) == ["class", "one"]
        """,
        'migrator = "none"\nexport_env = ["DATABASE_URL"]',
    )
    project.run().assert_outcomes(passed=2)


def test_keep(kept: Project) -> None:
    """A scope with a failed test is kept, under the name of the scope."""
    _project(
        kept,
        """
        pytestmark = pytest.mark.elefast(scope="module")
        def test_bad(db): assert False
        def test_good(db): add(db.engine, "x")
        """,
    )
    kept.file("test_fine.py", "from notes import *\n" + MODULE_SCOPE + "def test_good(db): pass\n")
    result = kept.run("--elefast-keep")
    result.assert_outcomes(passed=2, failed=1)
    assert [line for line in result.stdout.lines if line.startswith("kept ")] == ["kept      test_it.py"]


@pytest.mark.parametrize("leaks", ["warn", "error"])
def test_leaks(project: Project, leaks: str) -> None:
    """What the tests of a scope leave open is found at its end, and named with the scope."""
    project.configure(f'migrator = "none"\nleaks = "{leaks}"', pytest_table=PYTEST.replace('["error"]', '["default"]'))
    project.tests(
        "import pytest\n" + MODULE_SCOPE + "LEFT = []\n"
        "def test_one(db):\n    LEFT.append(db.engine.connect())\n    LEFT[0].exec_driver_sql('select 4711')\n"
        "def test_two(db): pass\n"
    )
    result = project.run_apart()
    result.assert_outcomes(passed=2, warnings=1 if leaks == "warn" else 0, errors=0 if leaks == "warn" else 1)
    result.stdout.re_match_lines([r".*test_it\.py left a connection open: .*4711"])


def test_a_stopped_run_releases_it(project: Project) -> None:
    """With `-x` the next test would have gone on with the scope."""
    _project(project, MODULE_SCOPE + "def test_one(db): assert False\ndef test_two(db): pass\n")
    project.run("-x").assert_outcomes(failed=1)
    assert not _left(project)


def test_a_stale_connection_of_a_scope_is_refused(project: Project) -> None:
    """An engine that the application keeps from a scope is refused in the next one, which names the scope."""
    project.file("app.py", "ENGINES = []\n")
    use = (
        "from notes import *\nimport app\n" + MODULE_SCOPE + "def test_one(db):\n"
        "    if not app.ENGINES:\n"
        "        app.ENGINES.append(create_engine(db.url))\n"
        "    add(app.ENGINES[0], 'x')\n"
    )
    project.configure()
    project.file("notes.py", NOTES)
    project.file("test_a.py", use)
    project.file("test_b.py", use)
    result = project.run_apart("-Wdefault")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.re_match_lines([r".*still connected to the database of test_a\.py, which is over"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('scope="modul"', 'scope: expected function, class, module, package, session, got "modul"'),
        ('scope="module", isolation="transaction"', "scope: tests of a scope share one private database"),
    ],
)
def test_a_wrong_marker(project: Project, marker: str, message: str) -> None:
    """Each is one error with its place."""
    project.tests(f"import pytest\n@pytest.mark.elefast({marker})\ndef test_it(db): pass\n")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*@pytest.mark.elefast of test_it.py::test_it*{message.replace(chr(34), '?')}*"])


@pytest.mark.parametrize("dist", ["load", "loadscope", "loadfile", "each"])
def test_workers(project: Project, dist: str) -> None:
    """One worker runs all tests of a scope, or those of the others fail with the remedy; `each` runs all in each."""
    _project(
        project,
        """
        import time
        pytestmark = pytest.mark.elefast(scope="module")

        @pytest.mark.parametrize("number", range(12))
        def test_it(db, number):
            assert len(notes(db.engine)) == number
            add(db.engine, "x")
            time.sleep(0.05)
        """,
    )
    project.file("test_other.py", (project.path / "test_it.py").read_text())
    result = project.run_apart("-n", "2", "--dist", dist)
    outcomes = result.parseoutcomes()
    if dist == "load":
        assert outcomes["errors"] > 0
        result.stdout.fnmatch_lines(
            ['*the tests of test_it.py share one database, by @pytest.mark.elefast(scope="module"), but pytest-xdist *']
        )
        result.stdout.fnmatch_lines(["Let one worker run them: pytest --dist loadscope, or *", "*explain scope-split*"])
    else:
        assert outcomes == {"passed": 48 if dist == "each" else 24}
    assert not _left(project)


def test_forked_tests(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that run in separate processes cannot share it."""
    monkeypatch.setenv("FORKED", "all")
    project.file("conftest.py", FORKED)
    _project(project, MODULE_SCOPE + "def test_one(db): pass\n")
    result = project.run_apart()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*each test runs in a forked process*"])


def test_only_planned(project: Project) -> None:
    """`--setup-plan` starts nothing."""
    _project(project, MODULE_SCOPE + "def test_one(db): pass\n")
    project.configure(url=False, elefast='migrator = "none"\nengine.url = "postgresql://127.0.0.1:1/x"')
    assert project.run("--setup-plan").ret == 0

"""The sync fixtures, and who wins where names meet."""

from __future__ import annotations

from .conftest import Project


def test_each_test_has_a_database_of_its_own(project: Project) -> None:
    """What one test commits, the next one does not see."""
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_it(db_session, n):\n"
        "    db_session.execute(text('CREATE TABLE mine ()'))\n"
        "    db_session.commit()\n"
    )
    project.run().assert_outcomes(passed=3)


def test_all_fixtures_of_a_test_are_of_one_database(project: Project) -> None:
    """`db`, `elefast_db`, the session and the connection look at the same one."""
    project.tests(
        "from sqlalchemy import text\n"
        "def test_it(db, elefast_db, db_session, db_connection):\n"
        "    assert db is elefast_db\n"
        "    name = text('SELECT current_database()')\n"
        "    assert db_session.scalar(name) == db_connection.scalar(name) == db.name\n"
    )
    project.run().assert_outcomes(passed=1)


def test_what_a_connection_does_not_commit_is_not_there(project: Project) -> None:
    """A fixture of a connection begins as SQLAlchemy's connections do."""
    project.tests(
        "from sqlalchemy import text\n"
        "def test_it(db, db_connection):\n"
        "    db_connection.execute(text('CREATE TABLE mine ()'))\n"
        "    with db.engine.connect() as other:\n"
        "        assert other.scalar(text(\"SELECT to_regclass('mine')\")) is None\n"
    )
    project.run().assert_outcomes(passed=1)


def test_the_server_makes_further_databases(project: Project) -> None:
    """`db_server` lives as long as the session, so wide fixtures can use it."""
    project.tests(
        "import pytest\n"
        "@pytest.fixture(scope='module')\n"
        "def wide(db_server):\n"
        "    with db_server.create_database() as database:\n"
        "        yield database\n"
        "def test_it(wide, db):\n"
        "    assert wide.name != db.name\n"
    )
    project.run().assert_outcomes(passed=1)


def test_nothing_starts_without_need(project: Project) -> None:
    """A server that is not there is nobody's problem until a test wants a database."""
    project.configure('engine.url = "postgresql://me@127.0.0.1:1/x"', url=False)
    project.tests("def test_other(): pass\ndef test_stack(elefast_stack): assert not elefast_stack.started")
    result = project.run()
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*- elefast -*")


def test_the_stack_is_the_one_of_from_config(project: Project) -> None:
    """A conftest that asks for it by hand shares it with the fixtures, from whatever directory."""
    project.tests(
        "import elefast\n"
        "def test_it(elefast_stack, tmp_path, monkeypatch):\n"
        "    monkeypatch.chdir(tmp_path)\n"
        "    assert elefast.from_config() is elefast_stack\n"
    )
    project.run().assert_outcomes(passed=1)


def test_a_fixture_of_a_conftest_wins(project: Project) -> None:
    """It may also build on the one that it replaces."""
    project.file("conftest.py", "import pytest\n@pytest.fixture\ndef db(db): return ('mine', db)")
    project.tests("def test_it(db, elefast_db): assert db == ('mine', elefast_db)")
    project.run().assert_outcomes(passed=1)


def test_the_session_follows_elefast_db(project: Project) -> None:
    """To replace the database of all sync fixtures, replace `elefast_db`."""
    project.file(
        "conftest.py",
        "import pytest\n"
        "@pytest.fixture\n"
        "def elefast_db(db_server):\n"
        "    with db_server.create_database() as database:\n"
        "        yield database\n",
    )
    project.tests(
        "from sqlalchemy import text\n"
        "def test_it(db, elefast_db, db_session):\n"
        "    assert db is elefast_db\n"
        "    assert db_session.scalar(text('SELECT current_database()')) == elefast_db.name\n"
    )
    project.run().assert_outcomes(passed=1)


def test_db_is_left_to_pytest_django(project: Project) -> None:
    """Its fixture of this name stays; the others work as always."""
    project.file("pytest_django_stand_in.py", "import pytest\n@pytest.fixture\ndef db(): return 'django'")
    project.file("stand_in-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: stand-in\nVersion: 1.0\n")
    project.file("stand_in-1.0.dist-info/entry_points.txt", "[pytest11]\ndjango = pytest_django_stand_in\n")
    project.import_from_here()
    project.tests("def test_it(db, elefast_db, db_session):\n    assert db == 'django'\n    assert elefast_db.name")
    project.run().assert_outcomes(passed=1)


def test_fixtures_are_documented(project: Project) -> None:
    """`pytest --fixtures` says what each is; helpers do not show."""
    result = project.run("--fixtures")
    for name in ("elefast_stack", "elefast_db", "db_server", "db", "db_connection", "db_session"):
        result.stdout.fnmatch_lines([f"{name} *-- *elefast*pytest_plugin*"])
    result.stdout.no_fnmatch_line("*no docstring available*elefast*")
    result.stdout.no_fnmatch_line("_elefast*")


def test_the_database_is_there_before_the_tests_other_fixtures(project: Project) -> None:
    """A client of the application reads the variables, wherever it stands in the list of arguments."""
    project.configure('migrator = "none"\nexport_env = ["DATABASE_URL"]')
    project.tests(
        "import os, pytest\n"
        "@pytest.fixture\n"
        "def client(): return os.environ['DATABASE_URL']\n"
        "def test_it(client, db): assert client == db.url.render_as_string(hide_password=False)\n"
    )
    project.run().assert_outcomes(passed=1)

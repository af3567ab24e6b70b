"""Other code sets a variable of `export_env`: outside of tests that has no effect, and a test may do what it likes."""

from __future__ import annotations

import os

import pytest

from .conftest import Project

PRECIOUS = "postgresql+psycopg://me@127.0.0.1:1/precious"
SET = f"os.environ['DATABASE_URL'] = '{PRECIOUS}'"
APP = """
import os
from dotenv import load_dotenv
from sqlalchemy import create_engine

def create_app():
    load_dotenv(override=True)
    return create_engine(os.environ["DATABASE_URL"])

load_dotenv(override=True)
engine = create_engine(os.environ["DATABASE_URL"])
"""


@pytest.fixture
def exporting(project: Project) -> Project:
    """A project whose application reads a `.env` over what is set."""
    project.configure('migrator = "none"\nexport_env = ["DATABASE_URL"]')
    project.file(".env", f"DATABASE_URL={PRECIOUS}\n")
    project.file("app.py", APP)
    return project


def test_a_plugin_that_sets_it_as_early_as_it_can(exporting: Project) -> None:
    """As pytest-env and pytest-dotenv do, in the first of the hooks that come before conftests."""
    exporting.file(
        "early.py",
        f"import os, pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_load_initial_conftests():\n    {SET}\n",
    )
    exporting.file("conftest.py", "import os\nSEEN = os.environ['DATABASE_URL']")
    exporting.tests(
        "import conftest, os\n"
        "def test_import(): assert '.invalid' in conftest.SEEN\n"
        "def test_without(): assert '.invalid' in os.environ['DATABASE_URL']\n"
        "def test_with(db): assert db.name in os.environ['DATABASE_URL']\n"
    )
    result = exporting.run_apart("-p", "early")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["variable  DATABASE_URL was set by early.py:4: ignored, because export_env names it"])
    assert "precious" not in result.stdout.str()


def test_a_dotenv_file_that_overrides(exporting: Project) -> None:
    """At the import of the application, and whenever a test or one of its fixtures makes one."""
    exporting.tests(
        "import app, os, pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def wide(): return app.create_app()\n"
        "@pytest.fixture\n"
        "def narrow(db): return app.create_app()\n"
        "def test_import(): assert '.invalid' in str(app.engine.url)\n"
        "def test_wide(wide): assert '.invalid' in str(wide.url)\n"
        "def test_narrow(db, narrow): assert db.name in str(narrow.url)\n"
        "def test_body(db): assert db.name in str(app.create_app().url)\n"
        "def test_after(): assert '.invalid' in os.environ['DATABASE_URL']\n"
    )
    result = exporting.run_apart("-n", "2")
    result.assert_outcomes(passed=5)
    lines = [line for line in result.outlines if line.startswith("variable")]
    assert sorted(lines) == [
        "variable  DATABASE_URL was set by app.py:10 through dotenv.main: ignored, because export_env names it",
        "variable  DATABASE_URL was set by app.py:7 through dotenv.main: ignored, because export_env names it",
    ]


OUTSIDE = {
    "an item": SET,
    "update": f"os.environ.update(DATABASE_URL='{PRECIOUS}')",
    "or": f"os.environ |= {{'DATABASE_URL': '{PRECIOUS}'}}",
    "bytes": f"os.environb[b'DATABASE_URL'] = b'{PRECIOUS}'",
    "an item is deleted": "del os.environ['DATABASE_URL']",
    "pop": "assert '.invalid' in os.environ.pop('DATABASE_URL')",
    "unsetenv": "os.environ.pop('DATABASE_URL', None); os.unsetenv('DATABASE_URL')",
    "everything is cleared": "kept = dict(os.environ); os.environ.clear(); os.environ.update(kept)",
    "everything is popped": (
        "kept = dict(os.environ)\n"
        "while len(os.environ) > 1: os.environ.popitem()\n"
        "try: os.environ.popitem()\n"
        "except KeyError: os.environ.update(kept)"
    ),
}


@pytest.mark.parametrize("statement", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("where", ["conftest", "test module"])
def test_outside_of_tests_it_cannot_be_changed(exporting: Project, statement: str, where: str) -> None:
    """Whichever method of the mapping does it; and what looks at it sees no difference."""
    text = f"import os\n{statement}\nassert '.invalid' in os.environ['DATABASE_URL']\n"
    exporting.file("conftest.py", text if where == "conftest" else "")
    test = "def test_it(): assert '.invalid' in os.environ['DATABASE_URL']\n"
    exporting.tests((text if where == "test module" else "import os\n") + test)
    exporting.run().assert_outcomes(passed=1)


def test_other_variables_can_be_changed(exporting: Project) -> None:
    """They are set, for child processes too, and gone when they are deleted."""
    exporting.tests(
        "import os, subprocess, sys\n"
        "os.environ['OTHER'] = 'x'\n"
        "SEEN = subprocess.check_output([sys.executable, '-c', 'import os; print(os.environ[\"OTHER\"])'])\n"
        "del os.environ['OTHER']\n"
        "def test_it(): assert SEEN == b'x\\n' and os.getenv('OTHER') is None\n"
    )
    exporting.run().assert_outcomes(passed=1)


def test_a_hook_cannot_change_it(exporting: Project) -> None:
    """Not even one that runs before every test."""
    exporting.file("conftest.py", f"import os\ndef pytest_runtest_setup(): {SET}\ndef pytest_sessionstart(): {SET}\n")
    exporting.tests("import os\ndef test_it(): assert '.invalid' in os.environ['DATABASE_URL']\n")
    exporting.run().assert_outcomes(passed=1)


def test_a_test_may_change_it(exporting: Project) -> None:
    """In its body and in fixtures of its own: it is what the test is about. Afterwards it is as before."""
    exporting.file(
        "conftest.py",
        "import os, pytest\n@pytest.fixture\ndef mine():\n    os.environ['DATABASE_URL'] = 'mine'\n    yield\n"
        "    del os.environ['DATABASE_URL']\n",
    )
    exporting.tests(
        "import os, unittest\n"
        "from unittest import mock\n"
        "def test_monkeypatch(monkeypatch):\n"
        "    monkeypatch.setenv('DATABASE_URL', 'mine')\n"
        "    assert os.environ['DATABASE_URL'] == 'mine'\n"
        "    monkeypatch.delenv('DATABASE_URL')\n"
        "    assert 'DATABASE_URL' not in os.environ\n"
        "def test_mock(db):\n"
        "    with mock.patch.dict(os.environ, {'DATABASE_URL': 'mine'}, clear=True):\n"
        "        assert dict(os.environ) == {'DATABASE_URL': 'mine'}\n"
        "    assert db.name in os.environ['DATABASE_URL']\n"
        "def test_fixture(mine): assert os.environ['DATABASE_URL'] == 'mine'\n"
        "class TestIt(unittest.TestCase):\n"
        "    def setUp(self): os.environ['DATABASE_URL'] = 'mine'\n"
        "    def test_it(self): assert os.environ['DATABASE_URL'] == 'mine'\n"
        "def test_after(): assert '.invalid' in os.environ['DATABASE_URL']\n"
    )
    exporting.run("-p", "no:randomly").assert_outcomes(passed=5)


def test_what_a_test_leaves_is_set_back(exporting: Project) -> None:
    """And named, since the next test would otherwise depend on the order of tests."""
    exporting.tests(
        "import os\n"
        "def test_leaves(): os.environ['DATABASE_URL'] = 'mine'\n"
        "def test_after(): assert '.invalid' in os.environ['DATABASE_URL']\n"
    )
    result = exporting.run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["variable  DATABASE_URL was left changed by test_it.py:2: elefast restored it"])


WIDER = """
import os, pytest, unittest
from unittest import mock

@pytest.fixture(scope="module", autouse=True)
def mine():
    {body}

class TestIt(unittest.TestCase):
    @classmethod
    def setUpClass(cls): os.environ["DATABASE_URL"] = "{url}"
    def test_it(self): assert ".invalid" in os.environ["DATABASE_URL"]

def test_it(): assert ".invalid" in os.environ["DATABASE_URL"]
"""


@pytest.mark.parametrize(
    "body",
    [
        f"{SET}; yield",
        "del os.environ['DATABASE_URL']; yield",
        f"mp = pytest.MonkeyPatch(); mp.setenv('DATABASE_URL', '{PRECIOUS}'); yield; mp.undo()",
        f"with mock.patch.dict(os.environ, {{'DATABASE_URL': '{PRECIOUS}'}}): yield",
        "with mock.patch.dict(os.environ, {'OTHER': 'x'}): yield",
    ],
    ids=["an item", "a deletion", "monkeypatch", "mock", "another variable"],
)
def test_a_wider_fixture_cannot_lead_elsewhere(exporting: Project, body: str) -> None:
    """It would do so for tests that asked for no database, too."""
    exporting.tests(WIDER.format(body=body, url=PRECIOUS))
    exporting.run().assert_outcomes(passed=2)


@pytest.mark.parametrize("entries", ['"DATABASE_URL"', '"DB_HOST={host}", "DB_NAME={database}"'])
def test_a_wider_fixture_may_lead_to_a_database_of_its_own(exporting: Project, entries: str) -> None:
    """For as long as it lasts; a test that asks for a database has that one meanwhile."""
    exporting.configure(f'migrator = "none"\nexport_env = [{entries}]')
    name, other = ("DATABASE_URL", "") if "URL" in entries else ("DB_NAME", "DB_HOST")
    exporting.tests(
        "import os, pytest\n"
        "@pytest.fixture(scope='module')\n"
        "def client(db_server):\n"
        "    with db_server.create_database() as database, pytest.MonkeyPatch.context() as patch:\n"
        f"        if '{other}': patch.setenv('DB_HOST', database.url.host)\n"
        f"        patch.setenv('{name}', database.dsn if '{name}' == 'DATABASE_URL' else database.name)\n"
        "        yield database.name\n"
        f"def test_first(client): assert client in os.environ['{name}']\n"
        f"def test_other(client, db): assert db.name in os.environ['{name}']\n"
        f"def test_again(client): assert client in os.environ['{name}']\n"
    )
    exporting.file(
        "test_later.py",
        f"import os\ndef test_it(): assert not os.environ['{name}'].startswith('elefast_')\n"
        f"def test_end(): assert 'elefast_d' not in os.environ['{name}']",
    )
    result = exporting.run("-p", "no:randomly", "test_it.py", "test_later.py")
    result.assert_outcomes(passed=5)
    assert not [line for line in result.outlines if line.startswith("variable")]


def test_the_address_that_libpq_prefers_is_gone(project: Project) -> None:
    """`PGHOSTADDR` and `PGSERVICE` would lead past `PGHOST`; after the run they are there again."""
    project.configure(
        'migrator = "none"\nexport_env = ["PGHOST={host}", "PGPORT={port}", "PGUSER={user}", "PGPASSWORD={password}", '
        '"PGDATABASE={database}"]'
    )
    project.env(PGHOSTADDR="127.0.0.1", PGHOST="127.0.0.1", PGPORT="1")
    project.tests(
        "import os, psycopg, pytest\n"
        "SEEN = dict(os.environ)\n"
        "def test_import():\n"
        "    assert '.invalid' in SEEN['PGHOST'] and 'PGHOSTADDR' not in SEEN and int(SEEN['PGPORT']) == 1\n"
        "def test_it(db):\n"
        "    with psycopg.connect() as connection: assert connection.info.dbname == db.name\n"
        "def test_after():\n"
        "    with pytest.raises(psycopg.OperationalError, match='resolve host'): psycopg.connect()\n"
    )
    project.run().assert_outcomes(passed=3)
    assert os.environ["PGHOSTADDR"] == "127.0.0.1"


def test_afterwards_nothing_is_guarded(exporting: Project) -> None:
    """A process that runs pytest may set its variables again, on the same object as before."""
    kind, mapping = type(os.environ), os.environ
    exporting.tests("def test_it(): pass")
    exporting.run().assert_outcomes(passed=1)
    assert type(os.environ) is kind
    assert os.environ is mapping


# Runs a child that prints the variable as it gets it.
CHILD = """
import os, subprocess, sys, threading, time
PROGRAM = "import os; print(os.environ.get('DATABASE_URL'))"

def child():
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
"""


def test_a_child_gets_nothing_of_an_earlier_test(exporting: Project) -> None:
    """Neither what an earlier test passed to `os.putenv`, nor what it could not set in a mapping of its own."""
    exporting.tests(
        CHILD + f"def test_1(): os.putenv('DATABASE_URL', '{PRECIOUS}')\n"
        "def test_2(): assert '.invalid' in child()\n"
        "def test_3(): os.unsetenv('DATABASE_URL')\n"
        "def test_4(db): os.unsetenv('DATABASE_URL')\n"
        "def test_5(): assert '.invalid' in child()\n"
        f"def test_6(): os.environ = dict(os.environ, DATABASE_URL='{PRECIOUS}')\n"
        "def test_7(): assert '.invalid' in child() and '.invalid' in os.environ['DATABASE_URL']\n"
        f"def test_8(db): os.environ = dict(os.environ, DATABASE_URL='{PRECIOUS}')\n"
        "def test_9(): assert '.invalid' in child() and '.invalid' in os.environ['DATABASE_URL']\n"
        "def test_last(db): assert db.name in child() and db.name in os.environ['DATABASE_URL']\n"
    )
    exporting.run("-p", "no:randomly").assert_outcomes(passed=10)


def test_a_thread_of_an_earlier_test(exporting: Project) -> None:
    """It sets the variable during its own test only."""
    exporting.tests(
        CHILD + "stop = threading.Event()\n"
        "def keep_setting():\n"
        "    while not stop.is_set():\n"
        f"        {SET}\n"
        "        time.sleep(0.001)\n"
        "def test_1(db):\n"
        "    threading.Thread(target=keep_setting, daemon=True).start()\n"
        "    time.sleep(0.1)\n"
        "    assert 'precious' in os.environ['DATABASE_URL']\n"
        "def test_2(db):\n"
        "    time.sleep(0.1)\n"
        "    assert db.name in os.environ['DATABASE_URL']\n"
        "def test_3():\n"
        "    time.sleep(0.1)\n"
        "    assert '.invalid' in os.environ['DATABASE_URL']\n"
        "    stop.set()\n"
    )
    exporting.run("-p", "no:randomly").assert_outcomes(passed=3)


def test_what_is_left_beside_a_database_of_elefast(exporting: Project) -> None:
    """A URL of elefast's in one variable does not excuse what a test leaves in another one."""
    exporting.configure('migrator = "none"\nexport_env = ["DATABASE_URL", "OTHER_URL"]')
    exporting.tests(
        "import os\n"
        "def test_1(db_server):\n"
        "    with db_server.create_database() as database:\n"
        "        os.environ['DATABASE_URL'] = database.url.render_as_string(hide_password=False)\n"
        f"        os.environ['OTHER_URL'] = '{PRECIOUS}'\n"
        "def test_2(): assert '.invalid' in os.environ['OTHER_URL']\n"
    )
    exporting.run("-p", "no:randomly").assert_outcomes(passed=2)

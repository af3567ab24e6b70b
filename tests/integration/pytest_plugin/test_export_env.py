"""The variables of `export_env`: a dead end at import, the database of a test during it, and as before at the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elefast.postgres.url_variables import ExportedVariable
from elefast.pytest_plugin.export_env import variables_in_text

from .conftest import PYTEST, Project

APP = """
import os
from sqlalchemy import create_engine, make_url

URL = os.environ["DATABASE_URL"]
ASYNC_URL = os.environ["ASYNC_URL"]
PLAIN_URL = os.environ["PLAIN_URL"]
"""
TABLE = 'migrator = "none"\nexport_env = ["DATABASE_URL", "ASYNC_URL=postgresql+asyncpg", "PLAIN_URL=postgresql"]'


@pytest.fixture
def exporting(project: Project) -> Project:
    """A project that exports three variables, and an application that reads them at import."""
    project.configure(TABLE)
    project.file("app.py", APP)
    return project


def test_at_import_they_lead_nowhere(exporting: Project) -> None:
    """Before any conftest, with each entry's driver, whatever a developer's shell says."""
    exporting.env(DATABASE_URL="postgresql://me@127.0.0.1/precious")
    exporting.file("conftest.py", "import app\nSEEN = (app.URL, app.ASYNC_URL, app.PLAIN_URL)")
    exporting.tests(
        "import conftest\n"
        "def test_it():\n"
        "    host = 'elefast@request-the-db-fixture.elefast.invalid/elefast'\n"
        "    drivers = ('postgresql+psycopg', 'postgresql+asyncpg', 'postgresql')\n"
        "    assert conftest.SEEN == tuple(f'{driver}://{host}' for driver in drivers)\n"
    )
    exporting.run_apart().assert_outcomes(passed=1)


def test_an_engine_made_at_import_says_what_to_do(exporting: Project) -> None:
    """The name of the host is in the driver's error."""
    exporting.tests(
        "import app\nfrom sqlalchemy import create_engine\ndef test_it():\n    create_engine(app.URL).connect()\n"
    )
    result = exporting.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*request-the-db-fixture.elefast.invalid*"])


def test_during_a_test_they_hold_its_database(exporting: Project) -> None:
    """With the password, for child processes too; and not beyond the test."""
    exporting.tests(
        "import os\n"
        "from sqlalchemy import make_url\n"
        "def test_before(): assert '.invalid' in os.environ['DATABASE_URL']\n"
        "def test_it(db):\n"
        "    assert os.environ['DATABASE_URL'] == db.url.render_as_string(hide_password=False)\n"
        "    other = make_url(os.environ['ASYNC_URL'])\n"
        "    assert (other.drivername, other.database) == ('postgresql+asyncpg', db.name)\n"
        "    assert make_url(os.environ['PLAIN_URL']).drivername == 'postgresql'\n"
        "def test_only_async(async_db):\n"
        "    assert make_url(os.environ['ASYNC_URL']).database == async_db.name\n"
        "def test_after(): assert '.invalid' in os.environ['DATABASE_URL']\n"
    )
    exporting.run().assert_outcomes(passed=4)


def test_afterwards_they_are_as_before(exporting: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs pytest has its own values again, and variables that were not set are not."""
    monkeypatch.setenv("DATABASE_URL", "mine")
    exporting.tests("import os\ndef test_it(db): assert os.environ['DATABASE_URL'] != 'mine'")
    exporting.run().assert_outcomes(passed=1)
    assert os.environ["DATABASE_URL"] == "mine"
    assert "ASYNC_URL" not in os.environ


def test_a_run_that_breaks_early_restores_them(exporting: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conftest that cannot be imported ends the run before pytest is configured."""
    monkeypatch.setenv("DATABASE_URL", "mine")
    exporting.file("conftest.py", "1 / 0")
    exporting.tests("def test_it(): pass")
    assert exporting.run().ret == pytest.ExitCode.USAGE_ERROR
    assert os.environ["DATABASE_URL"] == "mine"


def test_the_configured_driver_is_that_of_the_url(exporting: Project) -> None:
    """An entry without a driver has the one of sync engines."""
    exporting.configure(f'{TABLE}\nengine.driver = "pg8000"')
    exporting.tests(
        "import app, os\n"
        "def test_it(db):\n"
        "    assert app.URL.startswith('postgresql+pg8000://')\n"
        "    assert os.environ['DATABASE_URL'].startswith('postgresql+pg8000://')\n"
    )
    exporting.run().assert_outcomes(passed=1)


def test_a_broken_configuration_protects_all_the_same(exporting: Project) -> None:
    """Code that is imported before anybody looks at the error must not reach a developer's database."""
    exporting.configure(f"{TABLE}\nkep = 1")
    exporting.env(DATABASE_URL="postgresql://me@127.0.0.1/precious")
    exporting.tests("import app\ndef test_it(): assert '.invalid' in app.URL and '.invalid' in app.ASYNC_URL")
    exporting.run_apart().assert_outcomes(passed=1)


BROKEN = {
    "a profile": 'profiles.ci.export_env = ["DATABASE_URL"]\nkep = 1',
    "an inline table": 'profiles = { ci = { keep = "failed", export_env = ["DATABASE_URL"] } }\nkep = 1',
    "several lists": 'export_env = ["OTHER"]\nprofiles.ci.export_env = ["DATABASE_URL"]\nkep = 1',
    "comments within": 'export_env = [\n  # "OLD", see [1]\n  "OTHER",  # ]\n  "DATABASE_URL",\n]\nkep = 1',
    "an entry with spaces": 'export_env = ["DATABASE_URL = postgresql"]',
    "no list": 'export_env = "DATABASE_URL"\nkep = 1',
    "no end of the list": 'export_env = ["DATABASE_URL"\nkeep = "failed"',
    "no end of the string": 'export_env = ["DATABASE_URL]\nkeep = "failed"',
    "another line that is no TOML": 'keep =\nexport_env = ["DATABASE_URL"]',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_protects_however_it_is_written(project: Project, text: str) -> None:
    """In any table, and also where the file is no TOML."""
    project.file("pyproject.toml", PYTEST)
    project.file("elefast.toml", text)
    project.env(DATABASE_URL="postgresql://me@127.0.0.1/precious")
    project.tests("import os\nURL = os.environ['DATABASE_URL']\ndef test_it(): assert '.invalid' in URL")
    project.run().assert_outcomes(passed=1)


def test_in_pyproject_it_may_be_an_inline_table(project: Project) -> None:
    """`elefast = { ... }` is the same table."""
    project.file("pyproject.toml", f'[tool]\nelefast = {{ kep = 1, export_env = ["DATABASE_URL"] }}\n{PYTEST}')
    project.tests("import os\nURL = os.environ['DATABASE_URL']\ndef test_it(): assert '.invalid' in URL")
    project.run().assert_outcomes(passed=1)


def test_only_entries_are_taken_from_a_broken_configuration(tmp_path: Path) -> None:
    """Neither a line that is a comment, nor what follows a list, nor another key that ends alike."""
    file = tmp_path / "elefast.toml"
    file.write_text('# export_env = ["NO"]\nmy_export_env = ["NO"]\nexport_env = ["YES", "a-b"  # "NO"\nkeep = "NO"\n')
    assert variables_in_text([file, tmp_path / "missing"]) == [ExportedVariable("YES")]


@pytest.mark.parametrize("value", ["OTHER, DATABASE_URL=postgresql", '["OTHER", "DATABASE_URL"]', '["DATABASE_URL"'])
def test_the_variable_protects_with_a_broken_configuration(project: Project, value: str) -> None:
    """As JSON and with commas, beside what the file says."""
    project.configure('export_env = ["OF_THE_FILE"]\nkep = 1')
    project.env(ELEFAST_EXPORT_ENV=value)
    project.tests(
        "import os\n"
        "URLS = os.environ['DATABASE_URL'], os.environ['OF_THE_FILE']\n"
        "def test_it(): assert all('.invalid' in url for url in URLS)\n"
    )
    project.run().assert_outcomes(passed=1)


def test_a_variable_of_the_environment_can_configure_it(project: Project) -> None:
    """`ELEFAST_EXPORT_ENV` counts as much as the file."""
    project.env(ELEFAST_EXPORT_ENV="DATABASE_URL")
    project.tests("import os\nURL = os.environ['DATABASE_URL']\ndef test_it(): assert '.invalid' in URL")
    project.run_apart().assert_outcomes(passed=1)


def test_workers_of_xdist_protect_as_well(exporting: Project) -> None:
    """Each is a process of its own with a pytest of its own."""
    exporting.tests(
        "import app, os\n"
        "def test_import(): assert '.invalid' in app.URL\n"
        "def test_it(db): assert db.name in os.environ['DATABASE_URL']\n"
    )
    exporting.run_apart("-n", "2").assert_outcomes(passed=2)

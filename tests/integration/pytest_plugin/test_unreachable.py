"""A test meets the host that the variables name outside of tests: its report says what that means."""

from __future__ import annotations

import pytest

from .conftest import Project


@pytest.fixture
def exporting(project: Project) -> Project:
    """A project with an engine that is made at import."""
    project.configure('migrator = "none"\nexport_env = ["DATABASE_URL"]')
    project.file("app.py", "import os, sqlalchemy as sa\nengine = sa.create_engine(os.environ['DATABASE_URL'])\n")
    return project


def test_without_a_database(exporting: Project) -> None:
    """It has to ask for one."""
    exporting.tests("import app\ndef test_it(): app.engine.connect()")
    result = exporting.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["The test has no database, so DATABASE_URL names a host that does not exist.", "- Request `db`, *autouse*"]
    )


def test_with_a_database_and_an_engine_of_import(exporting: Project) -> None:
    """`patch` does not name the engine."""
    exporting.tests("import app\ndef test_it(db): app.engine.connect()")
    result = exporting.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["The test has a database, but *DATABASE_URL*made at import*", "- *patch = *my_app.db:engine*"]
    )


def test_with_a_fixture_of_a_wider_scope(exporting: Project) -> None:
    """It was made before the database of the test; the way out is in the message."""
    exporting.tests(
        "import os, pytest, sqlalchemy as sa\n"
        "@pytest.fixture(scope='module')\n"
        "def client(): return sa.create_engine(os.environ['DATABASE_URL']).connect()\n"
        "def test_it(client, db): pass\n"
    )
    result = exporting.run_apart("-n", "2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["- *@pytest.mark.elefast(scope=?module?)*elefast_stack.database(application=True)*"])


def test_asyncpg_does_not_name_the_host(exporting: Project) -> None:
    """Its error is that of the resolver alone."""
    exporting.configure('migrator = "none"\nexport_env = ["DATABASE_URL=postgresql+asyncpg"]')
    exporting.tests(
        "import asyncio, os\n"
        "from sqlalchemy.ext.asyncio import create_async_engine\n"
        "async def use(): await create_async_engine(os.environ['DATABASE_URL']).connect()\n"
        "def test_it(): asyncio.run(use())\n"
    )
    result = exporting.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["The test has no database, so DATABASE_URL names*"])


def test_in_a_transaction_the_variables_keep_the_host(exporting: Project) -> None:
    """The test has a database, and still the variable cannot lead to it."""
    exporting.configure('migrator = "none"\nexport_env = ["DATABASE_URL"]\nisolation = "transaction"')
    exporting.tests("import app\ndef test_it(db): app.engine.connect()")
    result = exporting.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(['With isolation = "transaction", DATABASE_URL cannot lead*'])


def test_other_failures_say_nothing_of_it(exporting: Project) -> None:
    """Only errors about this host do."""
    exporting.tests("import socket\ndef test_it(): socket.getaddrinfo('other.invalid', 1)\ndef test_bad(): assert 0")
    result = exporting.run()
    result.assert_outcomes(failed=2)
    assert "names a host" not in result.stdout.str()

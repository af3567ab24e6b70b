"""`autouse = true`: every test has a database, whether it asks for a fixture or not."""

from __future__ import annotations

import pytest

from .conftest import Project

TESTS = '''
import asyncio
import os
import unittest

import psycopg
import pytest

NAMES = set()


def use():
    """Write into the database of the test.

    >>> use()
    """
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("create table mark ()")


def test_function(): use()


@pytest.mark.parametrize("number", [1, 2])
def test_parameters(number): use()


@pytest.mark.asyncio
async def test_async(): use()


class TestClass:
    def test_method(self): use()


class TestCase(unittest.TestCase):
    def setUp(self): use()
    def test_case(self): pass


class TestAsyncCase(unittest.IsolatedAsyncioTestCase):
    async def test_case(self): use()


def test_asks_as_well(db): assert db.name in os.environ["DATABASE_URL"]
'''


@pytest.mark.parametrize("args", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_every_kind_of_test_has_one(project: Project, args: tuple[str, ...]) -> None:
    """Functions, methods, coroutines, unittest's and doctest's; each a database of its own."""
    project.configure('migrator = "none"\nexport_env = ["DATABASE_URL=postgresql"]\nautouse = true')
    project.tests(TESTS)
    project.run_apart("--doctest-modules", *args).assert_outcomes(passed=9)


def test_with_transactions(project: Project) -> None:
    """The tests share a database, and none sees what another one wrote."""
    project.configure('migrator = "none"\nautouse = true\nisolation = "transaction"\npatch = ["app:Session"]')
    project.file("app.py", "from sqlalchemy.orm import sessionmaker\nSession = sessionmaker()\n")
    project.tests(
        "import app, pytest, sqlalchemy as sa\n"
        "@pytest.mark.parametrize('number', [1, 2])\n"
        "def test_it(number):\n"
        "    with app.Session.begin() as session: session.execute(sa.text('create table mark ()'))\n"
    )
    project.run().assert_outcomes(passed=2)


def test_items_without_fixtures_have_none(project: Project) -> None:
    """A file that a conftest collects in its own way is no test of elefast's."""
    project.configure('migrator = "none"\nautouse = true', url=False)
    project.env(ELEFAST_ENGINE__URL="postgresql://localhost:1/none", ELEFAST_PROVIDER="url")
    project.file(
        "conftest.py",
        "import pytest\n"
        "class Item(pytest.Item):\n"
        "    def runtest(self): pass\n"
        "class File(pytest.File):\n"
        "    def collect(self): yield Item.from_parent(self, name='x')\n"
        "def pytest_collect_file(file_path, parent):\n"
        "    if file_path.suffix == '.own': return File.from_parent(parent, path=file_path)\n",
    )
    project.file("x.own", "")
    project.run().assert_outcomes(passed=1)


def test_a_broken_configuration_fails_every_test(project: Project) -> None:
    """Each of them needed what cannot be had."""
    project.configure('migrator = "none"\nautouse = 1')
    project.tests("def test_it(): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pyproject.toml:4  autouse: expected true or false, got 1*"])


def test_a_word_is_no_setting(project: Project) -> None:
    """A comment that has it changes nothing."""
    project.configure('migrator = "none"  # no autouse')
    project.tests("import pytest\ndef test_it(request): assert '_elefast_database' not in request.fixturenames")
    project.run().assert_outcomes(passed=1)

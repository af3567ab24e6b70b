"""The section of a test's report with what the test changed in its database."""

from __future__ import annotations

import pytest

from .conftest import PYTEST, Project

SQL = '[tool.elefast.sql]\nfiles = ["schema.sql"]'
SCHEMA = """
create table product (id int primary key, name text, password text);
insert into product values (1, 'pen', 'hunter2'), (2, 'cup', 'hunter2'), (3, 'mug', 'hunter2');
create table orders (id serial primary key, product_id int references product);
"""
CHANGES = """
from sqlalchemy import text

def change(engine):
    with engine.begin() as connection:
        connection.execute(text("insert into orders (product_id) values (1), (1)"))
        connection.execute(text("update product set name = 'PEN' where id = 1"))
        connection.execute(text("delete from product where id = 3"))
"""
SECTION = [
    "*- elefast -*",
    "The test changed in the database, compared with the template:",
    "orders: 2 inserted",
    "  + id=1, product_id=1",
    "  + id=2, product_id=1",
    "product: 1 updated, 1 deleted",
    "  ~ id=1: name 'pen' -> 'PEN'",
    "  - id=3, name='mug', password='[*][*][*]'",
]


def _project(project: Project, tests: str, keys: str = "") -> None:
    project.configure(keys + SQL)
    project.file("schema.sql", SCHEMA)
    project.tests(CHANGES + tests)


def test_a_failed_test_shows_what_it_changed(project: Project) -> None:
    """Also the second one, on a database that was reset; a test that passes shows nothing."""
    _project(
        project,
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_bad(db, n):\n    change(db.engine)\n    assert False\n"
        "def test_good(db): change(db.engine)\n",
    )
    result = project.run("-rA")
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines([*SECTION, *SECTION, *SECTION])
    output = result.stdout.str()
    assert output.count("compared with the template") == 3
    assert "hunter2" not in output


@pytest.mark.parametrize(("changes", "sections"), [("never", 0), ("failed", 1), ("always", 2)])
def test_the_setting(project: Project, changes: str, sections: int) -> None:
    """It decides which reports have the section."""
    _project(
        project,
        "def test_bad(db):\n    change(db.engine)\n    assert False\ndef test_good(db): change(db.engine)\n",
        f'changes = "{changes}"\n',
    )
    result = project.run("-rA")
    result.assert_outcomes(failed=1, passed=1)
    assert result.stdout.str().count("compared with the template") == sections


def test_where_nothing_was_changed(project: Project) -> None:
    """There is no section, and none for a test without a database or with a transaction."""
    _project(
        project,
        "import pytest\n"
        "def test_reads(db_session):\n    db_session.execute(text('select * from product'))\n    assert False\n"
        "def test_nothing(): assert False\n"
        "@pytest.mark.elefast(isolation='transaction')\n"
        "def test_transaction(db_session):\n    db_session.execute(text('delete from orders'))\n    assert False\n",
    )
    result = project.run()
    result.assert_outcomes(failed=3)
    assert "compared with the template" not in result.stdout.str()


def test_what_is_not_committed(project: Project) -> None:
    """It is not seen from outside, so the session is named: most often a commit was forgotten."""
    _project(
        project,
        "def test_bad(db_session):\n"
        "    db_session.execute(text('delete from orders'))\n"
        "    db_session.execute(text('insert into orders (product_id) values (1)'))\n    assert False\n",
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"Not committed, so not shown:", r"  .*last query: insert into orders"])


def test_a_locked_table_does_not_hide_the_failure(project: Project) -> None:
    """There is no section then."""
    _project(
        project,
        "def test_bad(db_session):\n    db_session.execute(text('lock table orders'))\n    assert 'the reason' == ''\n",
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the reason*"])
    assert "compared with the template" not in result.stdout.str()


def test_workers_and_scopes(project: Project) -> None:
    """Workers send the section along; tests that share a database show what all of them changed."""
    project.configure(SQL, pytest_table=PYTEST)
    project.file("schema.sql", SCHEMA)
    project.tests(
        "import pytest\n" + CHANGES + "pytestmark = pytest.mark.elefast(scope='module')\n"
        "def test_good(db): change(db.engine)\ndef test_bad(db): assert False\n"
    )
    result = project.run_apart("-n", "2", "--dist", "loadfile")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["The tests of test_it.py changed in the database, compared with the template:", "orders: 2 inserted"]
    )


def test_a_fixture_that_fails(project: Project) -> None:
    """What it changed is shown as well."""
    _project(
        project,
        "import pytest\n@pytest.fixture\ndef filled(db):\n    change(db.engine)\n    raise ValueError('x')\n"
        "def test_it(filled): pass\n",
    )
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(SECTION)


def test_the_scenario_is_what_it_is_compared_with(project: Project) -> None:
    """What its seed has written is no change of the test."""
    _project(
        project,
        "import pytest\n"
        "@pytest.mark.elefast(scenario='full')\n"
        "def test_bad(db): change(db.engine); assert False\n"
        "def test_other(db): assert False\n",
        keys='[tool.elefast.scenarios.full]\nseed = ["full.sql"]\n',
    )
    project.file("full.sql", "insert into orders (product_id) select 2 from generate_series(1, 7);")
    result = project.run("-rA")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*compared with the template:", "orders: 2 inserted"])
    assert result.stdout.str().count("orders:") == 1

"""Scenarios by marker: which one a test gets, and how many databases a run with many of them has."""

from __future__ import annotations

from .conftest import Project

TABLES = """
migrator = "sql"
sql.files = ["schema.sql"]
scenario = "one"
"""

TESTS = """
import pytest
from sqlalchemy import text

pytestmark = pytest.mark.elefast(scenario="two")


def name(session): return session.scalar(text("select string_agg(name, ' ') from item"))


def test_module(db_session): assert name(db_session) == "two"


@pytest.mark.elefast(scenario="three")
class TestClass:
    def test_class(self, db_session): assert name(db_session) == "three"

    @pytest.mark.elefast(scenario="")
    def test_test(self, db_session): assert name(db_session) is None

    @pytest.mark.elefast(keep="never")
    def test_another_option(self, db_session): assert name(db_session) == "three"

    @pytest.mark.elefast(isolation="transaction")
    @pytest.mark.parametrize("number", [1, 2])
    def test_transaction(self, db, db_session, number):
        assert name(db_session) == "three"
        db_session.execute(text("insert into item (name) values ('mine')"))
        db_session.commit()
"""

DEFAULT = """
from sqlalchemy import text


def test_setting(db_session):
    assert db_session.scalar(text("select name from item")) == "one"
"""

WRONG = """
import pytest


@pytest.mark.elefast(scenario="twoo")
def test_typo(db): ...


@pytest.mark.elefast(scenario=2)
def test_type(db): ...
"""


def _configure(project: Project, *names: str) -> None:
    (project.path / "schema.sql").write_text(f"create table item (name text); -- {project.path}\n")
    tables = [f'[tool.elefast.scenarios.{name}]\nseed = ["{name}.sql"]\n' for name in names]
    for name in names:
        (project.path / f"{name}.sql").write_text(f"insert into item values ('{name}');\n")
    project.configure(TABLES + "".join(tables))


def test_the_nearest_marker_counts(project: Project) -> None:
    """A test's before that of its class, that before the module's, and the setting where there is none."""
    _configure(project, "one", "two", "three")
    project.file("test_marked.py", TESTS)
    project.file("test_default.py", DEFAULT)
    result = project.run()
    result.assert_outcomes(passed=7)
    result.stdout.re_match_lines([r"template  migrated: built: there was none yet", r" +\w+: built: .*"])


def test_a_scenario_that_does_not_exist(project: Project) -> None:
    """The error has the place of the marker, and nothing is started for it."""
    _configure(project, "one", "two")
    project.tests(WRONG)
    result = project.run()
    result.assert_outcomes(errors=2)
    result.stdout.re_match_lines_random(
        [
            r'.*::test_typo  scenario: unknown scenario "twoo", the known ones are "one", "two", did you mean "two".*',
            r".*::test_type  scenario: expected a name, got 2",
        ]
    )


def test_many_scenarios_share_one_pool(project: Project) -> None:
    """Ten in turn have a database each besides `pool.size`, and after the first round tests find them ready."""
    names = [f"s{number}" for number in range(10)]
    _configure(project, "one", *names)
    tests = "\n".join(
        f"""
@pytest.mark.elefast(scenario="s{number % 10}")
def test_{number:02}(db_session, elefast_stack):
    assert db_session.scalar(text("select name from item")) == "s{number % 10}"
    pool = elefast_stack.service.pool
    assert pool._existing <= 1 + 4 + 10 + len(pool.state().used)
    assert len(pool.state().idle) <= 4 + 10
    assert pool.wait_until(lambda state: state.is_quiet, 60)
    if 12 <= {number} < 29:
        assert pool._ready("s{(number + 1) % 10}") is not None
"""
        for number in range(30)
    )
    project.tests("import pytest\nfrom sqlalchemy import text\n" + tests)
    result = project.run("-p", "no:randomly")
    result.assert_outcomes(passed=30)

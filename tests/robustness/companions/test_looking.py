"""Runs that only show what they would do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.robustness.companions.project import Project

TESTS = """
import pytest
from use import use

@pytest.fixture
def used(db_session):
    use(db_session, "a fixture")

def test_it(used): raise AssertionError("is not run")
"""


@pytest.mark.fault(
    "pytest --collect-only, --fixtures and --setup-plan", how="each in a project whose template was never built"
)
def test_nothing_starts(project: Project, record_property: Callable[[str, object], None]) -> None:
    """Nobody connects to the server, and nothing is made on it: not even a template."""
    project.write("test_it.py", TESTS)
    before = project.place.ask("select datname, sessions from pg_stat_database where datname = 'postgres'")
    databases = project.place.ask("select datname from pg_database order by 1")
    for option, shown in (
        ("--collect-only", "1 test collected"),
        ("--fixtures", "db_session -- "),
        ("--setup-plan", "SETUP    F db_session"),
    ):
        ended = project.run(option)
        assert ended.status == 0, ended.text
        assert shown in ended.text
        assert ended.tests == []
    assert project.place.ask("select datname from pg_database order by 1") == databases
    assert project.place.ask("select datname, sessions from pg_stat_database where datname = 'postgres'") == before
    record_property("times", 3)
    project.gone()


@pytest.mark.parametrize("place", ["local"], indirect=True)
@pytest.mark.fault("pytest --setup-only", how="a fixture that writes, and a test that is not run")
def test_setup_only(project: Project) -> None:
    """The fixtures have a database, which goes with the server."""
    project.write("test_it.py", TESTS)
    ended = project.run("--setup-only")
    assert ended.status == 0, ended.text
    assert ended.tests == ["a fixture"]
    project.gone()


def test_what_is_left_is_found(project: Project) -> None:
    """These tests would see a database, a file of the project and a temporary one that a run leaves."""
    project.write(
        "test_it.py",
        "import tempfile\nfrom pathlib import Path\nfrom use import use\n"
        "def test_it(db_session):\n"
        "    use(db_session)\n"
        "    Path('stray').touch()\n"
        "    tempfile.mkstemp(prefix='temporary')\n",
    )
    project.run("--elefast-keep=always").came_to(passed=1)
    kinds = sorted(name[:9] for name in project.left())
    assert kinds == ["elefast_k", "stray", "temporary"]

"""Runs that something else than `pytest` in the project's directory begins."""

from __future__ import annotations

import pytest

from tests.robustness.companions.project import Project

TESTS = """
import os

from use import use

def test_one(db_session): use(db_session)

def test_two(db_session):
    use(db_session)
    assert os.environ.get("FAILS") != "1"
"""

# What a watcher does, that runs the tests again and again: after a run that failed, and after the schema has changed.
LOOP = """
import os
import sys
import threading
from pathlib import Path

import pytest

codes = []
for number in range(4):
    os.environ["FAILS"] = str(int(number == 1))
    if number == 3:
        schema = Path("schema.sql")
        schema.write_text(schema.read_text() + "create table more ();")
    codes.append(int(pytest.main(sys.argv[1:])))
    threads = sorted(thread.name for thread in threading.enumerate())
    # One of a process looks after its connections, for as long as it lives.
    assert threads == ["MainThread", "elefast-watchdog"], threads
print("CODES", codes)
"""


@pytest.mark.parametrize("place", ["url", "local"], indirect=True)
@pytest.mark.fault(
    "several pytest.main() in one process", how="four of them; the second fails, the schema then changes"
)
def test_loop(project: Project) -> None:
    """Each has databases of its own and leaves no thread; the server goes with each."""
    project.write("test_it.py", TESTS)
    project.write("loop.py", LOOP)
    ended = project.run("-p", "no:xdist", script="loop.py")
    assert "CODES [0, 1, 0, 0]" in ended.text, ended.text
    ended.private()
    assert len(ended.seen) == 8
    assert ended.text.count("template  built") == (4 if project.place.directory else 2), ended.text
    project.gone()


@pytest.mark.parametrize("how", ["--rootdir", "-c"])
@pytest.mark.fault("pytest from another directory", how="`python -m pytest` with --rootdir, and with -c")
def test_elsewhere(project: Project, how: str) -> None:
    """The configuration is the project's, and nothing is written where the command was given."""
    project.write("tests/test_it.py", TESTS)
    project.write("conftest.py", "")
    elsewhere = project.path.with_name("elsewhere")
    elsewhere.mkdir()
    where = [how, str(project.path / ("pyproject.toml" if how == "-c" else ""))]
    ended = project.run(*where, str(project.path / "tests"), cwd=elsewhere)
    ended.came_to(passed=2)
    assert not list(elsewhere.iterdir())
    project.gone()

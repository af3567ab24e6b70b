"""Runs with several processes of pytest-xdist."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.robustness.companions.project import Project

TESTS = """
import os
import time

import pytest
from use import use

@pytest.mark.parametrize("number", range(8))
@pytest.mark.xdist_group("one")
def test_it(db_session, number):
    use(db_session)
    time.sleep(0.02)
    if number == 3 and os.environ.get("CRASHES"):
        os._exit(3)

class TestClass:
    @pytest.mark.parametrize("number", range(4))
    def test_it(self, db_session, number):
        use(db_session)
        time.sleep(0.02)
"""


@pytest.mark.parametrize("dist", ["loadscope", "loadgroup", "worksteal"])
@pytest.mark.fault("pytest-xdist --dist", how="loadscope, loadgroup and worksteal, with two workers and twelve tests")
def test_distributions(project: Project, dist: str) -> None:
    """However tests are dealt out, each has a database of its own."""
    project.write("test_it.py", TESTS)
    ended = project.run("-n", "2", "--dist", dist)
    ended.came_to(passed=12)
    assert len(ended.seen) == 12
    assert len({seen.pid for seen in ended.seen}) == 2
    project.gone()


@pytest.mark.parametrize("place", ["local"], indirect=True)
@pytest.mark.fault("pytest-xdist --maxprocesses", how="`-n 8 --maxprocesses=2`")
def test_fewer_processes(project: Project) -> None:
    """Two workers share one server, which goes with the run."""
    project.write("test_it.py", TESTS)
    ended = project.run("-n", "8", "--maxprocesses=2")
    ended.came_to(passed=12)
    assert len({seen.pid for seen in ended.seen}) == 2
    project.gone()


@pytest.mark.parametrize(("place", "workers"), [("url", 2), ("local", 1)], indirect=["place"])
@pytest.mark.fault("a worker of pytest-xdist that crashes", how="os._exit in a test; another worker takes its place")
def test_crash(project: Project, workers: int, record_property: Callable[[str, object], None]) -> None:
    """The test that crashed fails, all others pass; nothing is left after the next run."""
    project.write("test_it.py", TESTS)
    ended = project.run("-n", str(workers), CRASHES="1")
    ended.came_to(passed=11, failed=1)
    assert "replacing crashed worker gw" in ended.text
    # The last worker may come too late to get a test where the other one is quick.
    assert len({seen.pid for seen in ended.seen}) in (2, workers + 1)
    project.run("-n", "2").came_to(passed=12)
    project.gone()
    record_property("left", "nothing after the next run")

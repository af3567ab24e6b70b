"""Whole runs of pytest, with two workers, in whose middle something happens to the server."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from tests.guarantees.projects.project_support import Project
from tests.integration.providers.provider_support import until
from tests.robustness.faults.conftest import unkept
from tests.robustness.faults.server import Server

TESTS = """
import time
import pytest
from sqlalchemy import text

@pytest.mark.parametrize("number", range(20))
def test_it(db_session, number):
    assert db_session.scalar(text("select count(*) from note")) == 0
    db_session.execute(text("insert into note values ('a')"))
    db_session.commit()
    time.sleep(0.05)
"""


class _Run:
    """A run of 20 tests with two workers, which goes on in the background."""

    def __init__(self, project: Project) -> None:
        project.write("test_it.py", TESTS)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "-v"],
            cwd=project.path,
            env={**project.env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def end(self) -> str:
        """What it printed."""
        try:
            out, _ = self._process.communicate(timeout=120)
        finally:
            self._process.kill()
            self._process.wait()
        return out

    def passed(self, out: str) -> int:
        """How many tests passed; the others have errors of the connection."""
        ended = re.search(r"(\d+) passed", out)
        others = re.findall(r"^E +\S*(?:Error|Shutdown|Exception): (.*)", out, re.MULTILINE)
        assert ended, out
        assert all(re.search("connection|terminat|shutting down|starting up", text) for text in others), out
        return int(ended[1])


def _under_way(server: Server) -> bool:
    """Whether a test does something at this moment."""
    of_tests = "datname ~ '^elefast.*_d' and query ~ 'note|COMMIT|SAVEPOINT'"
    return bool(server.ask(f"select pid from pg_stat_activity where {of_tests}"))


@pytest.mark.fault("server restarted in the middle of a run", how="SIGINT to the postmaster, then a new one")
def test_restart(project: Project, server: Server) -> None:
    """At most the two tests that had a connection fail, all others pass; nothing is left but for the next run."""
    run = _Run(project)
    assert until(lambda: _under_way(server), 60)
    server.restart(signal.SIGINT)
    out = run.end()
    assert run.passed(out) >= 18, out
    assert "20 passed" in project.pytest().text
    assert unkept(server) == []


@pytest.mark.fault("all sessions ended in the middle of a run", how="pg_terminate_backend, isolation by transactions")
def test_all_sessions_ended(project: Project, server: Server) -> None:
    """At most the two tests that had a connection fail, all others have another shared database and pass."""
    project = Project(project.path, {**project.env, "ELEFAST_ISOLATION": "transaction"})
    run = _Run(project)
    assert until(lambda: _under_way(server), 60)
    server.ask("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    out = run.end()
    assert run.passed(out) >= 18, out
    assert "20 passed" in project.pytest().text
    assert unkept(server) == []

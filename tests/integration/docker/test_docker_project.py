"""A whole project on `provider = "docker"`: run twice, in parallel, and interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guarantees.projects.project_support import Project
from tests.integration.docker.container_support import lock_files, names
from tests.integration.docker.docker_support import where_engine_is
from tests.integration.providers.provider_support import until

CONFIGURATION = """
[tool.elefast]
provider = "docker"
migrator = "sql"
sql.files = ["schema.sql"]
docker.image = "{image}"
docker.reuse = {reuse}

[tool.pytest.ini_options]
pythonpath = ["."]
"""

TESTS = """
import pytest
from sqlalchemy import text

@pytest.mark.parametrize("number", range(4))
def test_notes(db_session, number):
    assert db_session.scalar(text("select count(*) from note")) == 0
    db_session.execute(text("insert into note values (1)"))
    db_session.commit()
"""

WAITING = """
import pathlib, time

def test_waiting(db, request):
    pathlib.Path(__file__).with_name(f"waiting-{request.config.workerinput['workerid']}"
        if hasattr(request.config, "workerinput") else "waiting").touch()
    time.sleep(600)
"""


KILLING = """
import os
import pytest
from docker import DockerClient

@pytest.mark.parametrize("number", range(20))
def test_it(db, elefast_stack, number):
    if number == 3:
        container = DockerClient.from_env().containers.get(elefast_stack.service.lease.container)
        getattr(container, os.environ["HOW"])(**({"force": True, "v": True} if os.environ["HOW"] == "remove" else {}))
"""


@pytest.fixture
def make(home: Path, any_image: str, docker_client: Any) -> Iterator[Any]:
    """Writes the project; what it leaves running is removed in the end."""

    def write(reuse: str, tests: str = TESTS) -> Project:
        made = Project(home, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        made.write("pyproject.toml", CONFIGURATION.format(image=any_image, reuse=reuse))
        made.write("schema.sql", "create table note (id int primary key);")
        made.write("test_it.py", tests)
        return made

    yield write
    for name in names(docker_client, home):
        docker_client.containers.get(name).remove(force=True, v=True)


def test_the_second_run_finds_everything(make: Any, home: Path, docker_client: Any) -> None:
    """The container and the template in it."""
    project = make("true")
    first = project.pytest()
    assert "4 passed" in first.text
    (name,) = names(docker_client, home)
    assert f"in container {name}, data in memory, shared, kept; " in first.text
    assert 'provider  docker (provider = "docker", pyproject.toml:3)' in first.text
    second = project.pytest()
    assert second.template.startswith("reused")
    assert names(docker_client, home) == [name]


def test_workers_share_one_that_goes_at_the_end(make: Any, home: Path, docker_client: Any) -> None:
    """Also where a test failed; where CI is set, "auto" means that."""
    before = lock_files()
    project = make('"auto"', TESTS + "    assert number != 2")
    run = project.pytest("-n", "2", passes=False, CI="true")
    assert "1 failed, 3 passed" in run.text
    assert "data in memory, shared, not kept" in run.text
    assert names(docker_client, home) == []
    assert lock_files() == before


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c(make: Any, home: Path, docker_client: Any, workers: str) -> None:
    """In the terminal it goes to all processes of the run; the container goes with them."""
    before = lock_files()
    make("false", WAITING if workers == "0" else WAITING + WAITING.replace("test_waiting", "test_too"))
    # Not inherited where this run itself is in the background, and so has it ignored.
    restore = "import signal, sys, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); "
    run = subprocess.Popen(
        [sys.executable, "-c", restore + "sys.exit(pytest.main(sys.argv[1:]))", "-q", "-n", workers],
        cwd=home,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert until(lambda: len(list(home.glob("waiting*"))) == max(1, int(workers)), 180), names(docker_client, home)
        assert len(names(docker_client, home)) == 1
        os.killpg(run.pid, signal.SIGINT)
        output, _ = run.communicate(timeout=180)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
    assert "KeyboardInterrupt" in output
    assert until(lambda: names(docker_client, home) == [], 180), output
    assert lock_files() == before


@pytest.mark.fault("a container ends", how="`docker kill` or `docker rm -f` in the middle of a run")
@pytest.mark.parametrize(
    ("how", "why"), [("kill", r"has ended \(exit code 137\)"), ("remove", "was removed")], ids=["killed", "removed"]
)
def test_a_container_that_ends(make: Any, home: Path, how: str, why: str) -> None:
    """Nobody waits for it: each test that has no database fails with the reason, in full at the first one."""
    project = make("false", KILLING)
    run = project.pytest(passes=False, HOW=how, **where_engine_is())
    reasons = re.findall(rf"^\S+ has ended in the middle of the run: container \S+ {why}$", run.text, re.MULTILINE)
    assert reasons, run.text
    assert "did not answer within" not in run.text
    assert "(in full at test_it.py::test_it[" in run.text
    make("false")
    assert "4 passed" in project.pytest().text

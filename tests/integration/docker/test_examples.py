"""The three kinds of projects that the first elefast had as examples, run as their developers would: cold, then warm.

They lie in `projects`, each in one text file, so that no tool takes them for tests of this repository.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.docker.docker_support import containers

if TYPE_CHECKING:
    from docker import DockerClient

PROJECTS = Path(__file__).parent / "projects"

CONFIGURATION = """
[tool.elefast]
provider = "docker"
[tool.elefast.docker]
image = "postgres:15"
reuse = true
"""


def lay_out(kind: str, where: Path) -> None:
    """Write the files of a project."""
    text = (PROJECTS / f"{kind}.txt").read_text()
    _, *parts = re.split(r"^=== (.+)\n", text, flags=re.MULTILINE)
    for name, content in zip(parts[::2], parts[1::2], strict=True):
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def run(project: Path, passes: int) -> str:
    """Run pytest there; what it wrote."""
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-ra"],
        cwd=project,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    assert outcome.returncode == 0, outcome.stdout
    assert f"{passes} passed" in outcome.stdout, outcome.stdout
    return outcome.stdout


@pytest.mark.usefixtures("postgres_latest")
@pytest.mark.parametrize(("kind", "passes"), [("sync", 4), ("migrated", 3), ("fastapi", 4)])
def test_the_kept_api(docker_client: DockerClient, project: Path, kind: str, passes: int) -> None:
    """A conftest as the documentation of the first elefast taught it."""
    lay_out(kind, project)
    run(project, passes)
    (container,) = containers(docker_client, project)
    run(project, passes)
    assert containers(docker_client, project) == [container]


@pytest.mark.usefixtures("postgres_15")
def test_the_configuration(docker_client: DockerClient, project: Path) -> None:
    """The same tests of the Alembic project without any conftest; the second run migrates nothing."""
    lay_out("migrated", project)
    (project / "tests" / "conftest.py").unlink()
    with (project / "pyproject.toml").open("a") as file:
        file.write(CONFIGURATION)
    first = run(project, passes=3)
    assert re.search(r"template +built: there was none yet", first), first
    (container,) = containers(docker_client, project)
    second = run(project, passes=3)
    assert re.search(r"template +reused, built", second), second
    assert re.search(r"server +PostgreSQL 15\.\d+ \(postgres:15\) in container elefast-", second), second
    assert containers(docker_client, project) == [container]

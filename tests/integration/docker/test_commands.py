"""`elefast up`, `psql`, `run` and `down` with a server in a container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.docker.docker_support import skip_or_fail


def test_up_stays_until_down(project: Path, any_image: str) -> None:
    """Also where it is not for reuse; other processes find it, and psql of the container is there for all."""
    program = shutil.which("docker")
    if program is None:
        skip_or_fail("the client of Docker is not installed")
    (project / "pyproject.toml").write_text(
        f'[tool.elefast]\nprovider = "docker"\n[tool.elefast.docker]\nimage = "{any_image}"\nreuse = false\n'
    )
    only_docker = project / "bin"
    only_docker.mkdir()
    (only_docker / "docker").symlink_to(program)
    root = project / "root"
    root.mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith("ELEFAST_")}
    # `down` is for all containers of a user; this one has no others.
    env["_ELEFAST_ROOT"] = str(root)

    def elefast(*words: str, **more: str) -> str:
        command = [sys.executable, "-m", "elefast.cli", *words]
        done = subprocess.run(
            command, cwd=project, env={**env, **more}, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert not json.loads(elefast("status", "--json"))["running"]
    assert json.loads(elefast("up", "--json"))["started"]
    assert not json.loads(elefast("up", "--json"))["started"]
    assert json.loads(elefast("status", "--json"))["provider"] == "docker"
    elefast("run", "--keep", "--", "true")
    (kept,) = (item["name"] for item in json.loads(elefast("ls", "--json")) if item["kind"] == "kept")
    inside = {"PATH": str(only_docker), "ELEFAST_LOCAL__BIN_DIR": str(only_docker)}
    assert elefast("psql", "--", "-Atc", "select current_database()", **inside).strip() == kept
    assert "in use, left running" in elefast("run", "--", sys.executable, "-m", "elefast.cli", "down")
    assert not json.loads(elefast("status", "--json"))["running"]
    elefast("up", "--no-template")
    (container,) = json.loads(elefast("down", "--json"))["containers"]
    assert container["removed"]
    assert not json.loads(elefast("status", "--json"))["running"]

"""A project with one SQL file as the working directory, its server in the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import elefast
from tests.integration.stack.conftest import env, names, project, start
from tests.support.dumps import psqls

__all__ = ["env", "inside", "names", "project", "start"]


@pytest.fixture
def inside(project: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project as the working directory, its server in the environment; nothing of elefast's stays there."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("ELEFAST_ENGINE__URL", env["ELEFAST_ENGINE__URL"])
    yield project
    with elefast.from_config(project, migrator="none") as stack:
        stack.admin().prune(templates=True)


@pytest.fixture
def psql() -> None:
    """A psql on the PATH that runs."""
    if not psqls():
        pytest.skip("needs psql")

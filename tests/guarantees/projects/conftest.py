"""Whole little projects, on the server of these tests or on one of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guarantees.projects.project_support import REPOSITORY, Project


@pytest.fixture
def project(tmp_path: Path, server_url: str) -> Project:
    """An empty project whose server is the one of these tests."""
    return Project(tmp_path, {**os.environ, "ELEFAST_ENGINE__URL": server_url, "PYTHONDONTWRITEBYTECODE": "1"})


@pytest.fixture
def quickstart(tmp_path: Path) -> Callable[..., Project]:
    """A copy of the quickstart, on a local server."""

    def copy(**env: str) -> Project:
        path = tmp_path / "quickstart"
        shutil.copytree(REPOSITORY / "examples" / "quickstart", path, ignore=shutil.ignore_patterns("__pycache__"))
        return Project(path, {**os.environ, "ELEFAST_PROVIDER": "local", "PYTHONDONTWRITEBYTECODE": "1", **env})

    return copy

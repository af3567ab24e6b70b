"""A project with one SQL file, and ways to run Python in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import elefast
from elefast.postgres.names import Kind, Name

PYPROJECT = """
[project]
name = "stack-tests"
[tool.elefast]
migrator = "sql"
[tool.elefast.sql]
files = ["schema.sql"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a configuration and a schema of one table."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "schema.sql").write_text(f"create table note (body text);\n-- {tmp_path}\n")
    return tmp_path


@pytest.fixture
def env(server_url: str) -> dict[str, str]:
    """An environment that names the server of these tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ELEFAST_", "TESTING_DB"))}
    return {**kept, "ELEFAST_ENGINE__URL": server_url}


@pytest.fixture
def stack(project: Path, env: dict[str, str]) -> Iterator[elefast.Stack]:
    """A stack of the project, closed at the end."""
    with elefast.from_config(project, env=env) as stack:
        yield stack


@pytest.fixture
def names(server_url: str) -> Iterator[Callable[[], set[str]]]:
    """The names of all databases that are not PostgreSQL's own, and do not wait unused for the next run."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:

        def names() -> set[str]:
            found = {name for (name,) in connection.execute("select datname from pg_database where oid >= 16384")}
            return {name for name in found if not ((made := Name.parse(name)) and made.kind is Kind.SPARE)}

        yield names


@pytest.fixture
def start(project: Path, env: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start a Python program in the project."""

    def start(program: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=project,
            env={**env, **more},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start

"""A stack and servers with a table that is empty in the template, and one that has rows in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

import elefast

_PYPROJECT = """
[project]
name = "snapshot-tests"
[tool.elefast]
migrator = "sql"
[tool.elefast.sql]
files = ["schema.sql"]
"""

_SCHEMA = """
create table item (id serial primary key, body text);
create table country (code text primary key, name text);
insert into country values ('de', 'Germany'), ('at', 'Austria');
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a configuration and a schema."""
    (tmp_path / "pyproject.toml").write_text(_PYPROJECT)
    (tmp_path / "schema.sql").write_text(f"{_SCHEMA}-- {tmp_path}\n")
    return tmp_path


@pytest.fixture
def stack(project: Path, server_url: str) -> Iterator[elefast.Stack]:
    """A stack of the project, closed at the end."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ELEFAST_", "TESTING_DB"))}
    with elefast.from_config(project, env={**kept, "ELEFAST_ENGINE__URL": server_url}) as stack:
        yield stack


@pytest.fixture
def url(server_url: str) -> URL:
    """The server's URL."""
    return make_url(server_url)

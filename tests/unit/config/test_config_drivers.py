"""Which drivers engines have."""

from __future__ import annotations

from typing import Any

import pytest

from elefast.config.drivers import async_driver, sync_driver

from .conftest import Project

CASES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "psycopg", "asyncpg"),
    ({"engine__url": "postgresql://localhost/x"}, "psycopg", "asyncpg"),
    ({"engine__url": "postgresql+psycopg://localhost/x"}, "psycopg", "psycopg"),
    ({"engine__url": "postgresql+pg8000://localhost/x"}, "pg8000", "asyncpg"),
    ({"engine__url": "postgresql+asyncpg://localhost/x"}, "psycopg", "asyncpg"),
    ({"engine__url": "postgresql+pg8000://localhost/x", "engine__driver": "psycopg2"}, "psycopg2", "asyncpg"),
    ({"engine__async_driver": "psycopg"}, "psycopg", "psycopg"),
]


@pytest.mark.parametrize(("keys", "sync", "async_"), CASES)
def test_the_drivers_of_engines(project: Project, keys: dict[str, Any], sync: str, async_: str) -> None:
    """What was written for them, else that of the URL where it fits, else the usual one."""
    project.write("elefast.toml", "")
    settings = project.load(**keys).settings
    assert (sync_driver(settings), async_driver(settings)) == (f"postgresql+{sync}", f"postgresql+{async_}")

"""A server for the tests of databases, looked at from outside, and the drivers they run with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import URL, Column, Integer, MetaData, Table, Text, make_url

SYNC_DRIVERS = ("psycopg", "psycopg2", "pg8000")
ASYNC_DRIVERS = ("asyncpg", "psycopg")


@pytest.fixture
def metadata() -> MetaData:
    """A table in a schema of its own."""
    metadata = MetaData()
    Table("note", metadata, Column("id", Integer, primary_key=True), Column("body", Text), schema="app")
    return metadata


@pytest.fixture(params=SYNC_DRIVERS)
def sync_url(request: pytest.FixtureRequest, server_url: str) -> URL:
    """The server's URL with each sync driver."""
    return make_url(server_url).set(drivername=f"postgresql+{request.param}")


@pytest.fixture(params=ASYNC_DRIVERS)
def async_url(request: pytest.FixtureRequest, server_url: str) -> URL:
    """The server's URL with each async driver."""
    return make_url(server_url).set(drivername=f"postgresql+{request.param}")


@pytest.fixture
def query(server_url: str) -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    """Ask the server something, past elefast."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:

        def ask(statement: str) -> list[tuple[object, ...]]:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

        yield ask


@pytest.fixture
def ours(query: Callable[[str], list[tuple[object, ...]]]) -> Callable[[], list[str]]:
    """The names of all databases that are not PostgreSQL's own."""
    return lambda: [str(name) for (name,) in query("select datname from pg_database where oid >= 16384 order by oid")]

"""Fixtures over elefast's public API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

import elefast
from elefast import Database, DatabaseServer


@pytest.fixture(scope="session")
def server() -> Iterator[DatabaseServer]:
    """The server; ELEFAST_ENGINE__URL names another one than that which would be started."""
    with elefast.from_config(migrator="metadata", metadata={"target": "notes.tables:metadata"}) as stack:
        yield stack.server


@pytest.fixture
def database(server: DatabaseServer) -> Iterator[Database]:
    """A database of the test's own, gone afterwards."""
    with server.create_database() as database:
        yield database


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection to it."""
    with database.engine.connect() as connection:
        yield connection

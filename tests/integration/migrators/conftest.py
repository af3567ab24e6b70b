"""An empty database and an empty project directory for each test of the migrators."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.integration.migrators.migrator_support import Project, dsn_of


@pytest.fixture
def new_database(server_url: str) -> Generator[DatabaseFactory]:
    """Makes empty databases, which are dropped after the test."""
    factory = DatabaseFactory(make_url(server_url))
    yield factory
    factory.drop()


@pytest.fixture
def template(new_database: DatabaseFactory) -> URL:
    """The URL of an empty database, as the template protocol gives it to a plan."""
    return new_database()


@pytest.fixture(scope="session")
def alembic_templates() -> Generator[Path]:
    """What ``alembic init`` made, for all tests of the run."""
    with new_directory() as directory:
        yield directory


@pytest.fixture
def project(alembic_templates: Path) -> Generator[Project]:
    """An empty directory to write a project into."""
    with new_directory() as directory:
        yield Project(directory, alembic_templates)


@contextmanager
def new_directory() -> Generator[Path]:
    """A directory, in memory where there is some, which is removed again."""
    memory = "/dev/shm"
    directory = tempfile.mkdtemp(prefix="elefast-project-", dir=memory if os.access(memory, os.W_OK) else None)
    try:
        yield Path(directory).resolve()
    finally:
        shutil.rmtree(directory)


class DatabaseFactory:
    """Creates databases on one server and drops them in the end."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._names: list[str] = []

    def __call__(self) -> URL:
        name = f"migrators_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(dsn_of(self._server), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        self._names.append(name)
        return self._server.set(database=name)

    def drop(self) -> None:
        with psycopg.connect(dsn_of(self._server), autocommit=True) as connection:
            for name in self._names:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

"""A server that writes down every statement, roles on it with passwords that no text has by chance, and a project."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guarantees.passwords.search import Secret
from tests.guarantees.passwords.world import World
from tests.robustness.faults.server import Server


@pytest.fixture(scope="session", autouse=True)
def _linux() -> None:
    """They look into /proc."""
    if sys.platform != "linux":
        pytest.skip("these tests look at processes in /proc")


@pytest.fixture(scope="module")
def secret() -> Secret:
    """The password of the role that the project's URL names."""
    return Secret()


@pytest.fixture(scope="module")
def talkative(elefast_root: Path, request: pytest.FixtureRequest, secret: Secret) -> Iterator[Server]:
    """A server whose log has all statements, and the role `app` with the password."""
    server = Server(elefast_root / request.module.__name__.rpartition(".")[2])
    server.start(log_statement="all", log_min_messages="debug1", log_connections="on")
    # Pure ASCII, so that pg8000 and libpq agree on it.
    literal = secret.text.replace("'", "''")
    server.ask(f"create role app login superuser password '{literal}'")
    yield server
    server.stop()
    shutil.rmtree(server.data.parent)


@pytest.fixture
def world(tmp_path: Path, talkative: Server, secret: Secret) -> World:
    """The project, and a home of its own for what is written outside of it."""
    return World(tmp_path, talkative, secret)

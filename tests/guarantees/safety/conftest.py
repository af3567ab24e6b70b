"""A server with what is not elefast's and looks as if it were."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from elefast.postgres.names import Kind, Name
from tests.robustness.crashes.foreign import SOMEBODY, foreign_databases
from tests.robustness.faults.server import Server


@pytest.fixture(scope="module")
def server(elefast_root: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for the tests of one module."""
    server = Server(elefast_root / request.module.__name__.rpartition(".")[2])
    server.start(max_prepared_transactions=5)
    yield server
    server.stop()
    shutil.rmtree(server.data.parent)


@pytest.fixture(scope="module")
def decoys(server: Server) -> dict[str, str]:
    """Databases that are not elefast's, by what is wrong with them."""
    foreign_databases(server)  # which makes the roles as well
    found = {
        "wrong digest": "elefast_d0123456789ab_0_00000000",
        "no mark": "precious_0",
        "another role's": str(Name("elefast", Kind.CLONE, "foreign00000", "1")),
    }
    assert set(found.values()) <= server.names()
    assert server.ask(
        f"select 1 from pg_database where datname = '{found[_FOREIGN]}' and datdba = '{SOMEBODY}'::regrole"
    )
    return found


_FOREIGN = "another role's"

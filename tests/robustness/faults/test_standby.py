"""A server that recovers, or follows another one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from elefast import DatabaseServer
from elefast.errors import DatabaseNotReadyError
from tests.robustness.faults.server import Server


@pytest.fixture
def standby(origin: Server, elefast_root: Path) -> Iterator[Server]:
    """A standby of a primary that is away; it is not started."""
    server = Server(elefast_root / "standby", like=origin)
    (server.data / "standby.signal").touch()
    server.account.give(str(server.data))
    yield server
    server.stop()
    shutil.rmtree(server.data.parent)


@pytest.mark.fault("a server in recovery", how="a standby, made by standby.signal, that can be read")
def test_a_standby(standby: Server) -> None:
    """It is refused at once; promoted it works."""
    standby.start(max_connections=100)
    server = DatabaseServer(standby.url)
    with pytest.raises(DatabaseNotReadyError, match="is a standby or still in recovery") as caught:
        server.ensure_is_ready(30)
    assert caught.value.code == "standby"
    assert standby.ask("select pg_promote()") == [(True,)]
    with server.create_database() as database:
        assert database.name in standby.names()


@pytest.mark.fault("a standby that lets nobody in", how="standby.signal and hot_standby = off")
def test_a_standby_that_cannot_be_read(standby: Server) -> None:
    """It is waited for as long as was said; the error has the server's own words."""
    standby.start(wait=False, max_connections=100, hot_standby="off")
    with pytest.raises(DatabaseNotReadyError, match=r"not accepting connections.*Hot standby mode is disabled"):
        DatabaseServer(standby.url).ensure_is_ready(1, 0.2)

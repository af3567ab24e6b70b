"""Two hosts, a server that both reach, and a checkout of one project on each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from elefast.postgres.names import Kind, Name
from tests.integration.providers.provider_support import until
from tests.robustness.companions.plugins import without
from tests.robustness.faults.server import PASSWORD, Server
from tests.robustness.hosts.network import Host, Network, NotAllowedError, Run

# Without it pytest-asyncio warns.
_SCOPE = "asyncio_default_fixture_loop_scope=function"

CONFIGURATION = """
[project]
name = "shared"
[tool.elefast]
migrator = "callable"
callable.target = "schema:create"
"""
SCHEMA = '''
import socket
from pathlib import Path

def create(connection):
    """Take long enough for the other host to come meanwhile, and note that it was done."""
    connection.exec_driver_sql("create table note (id serial primary key, body text)")
    connection.exec_driver_sql("select pg_sleep(1)")
    with Path.home().joinpath("template-built").open("a") as file:
        file.write(socket.gethostname())
'''
SHARDS = '''
import os

def pytest_collection_modifyitems(items):
    """This machine's shard: each second test."""
    items[:] = items[int(os.environ.get("SHARD", "0"))::2] if "SHARD" in os.environ else items
'''
TESTS = '''
import os
import socket
import time
from pathlib import Path

import pytest
from sqlalchemy import text

HOME = Path.home()
HERE = socket.gethostname()

@pytest.mark.parametrize("number", range(16))
def test_note(db_session, db, number):
    """It is alone in its database, for as long as others are at it."""
    assert db_session.scalar(text("select count(*) from note")) == 0
    db_session.execute(text("insert into note (body) values (:host)"), {"host": HERE})
    db_session.commit()
    time.sleep(0.05)
    assert db_session.execute(text("select id, body from note")).all() == [(1, HERE)]
    with (HOME / "databases").open("a") as file:
        file.write(f"{number} {db.name}\\n")
'''
HELD = '''
import os
import time
from pathlib import Path

import pytest
from sqlalchemy import text

HOME = Path.home()

@pytest.mark.parametrize("number", range(2))
def test_held(db_session, db, number):
    """It has its database, with a transaction open, until it is told to go on."""
    db_session.execute(text("insert into note (body) values ('held')"))
    (HOME / f"held-{number}").write_text(f"{os.getpid()} {db.name}")
    while not (HOME / "go").exists():
        time.sleep(0.05)
    assert db_session.scalar(text("select body from note")) == "held"
    db_session.commit()
'''


@dataclass(frozen=True)
class Machine:
    """A host with a checkout of the project."""

    host: Host
    checkout: Path
    env: dict[str, str]

    def pytest(self, *arguments: str, **env: str) -> Run:
        """Start pytest there."""
        command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *without(), "-o", _SCOPE, "-v", *arguments)
        return self.host.start(self.checkout, *command, **self.env, **env)

    def hold(self, *arguments: str) -> tuple[Run, dict[str, int]]:
        """A run that is in the middle of its tests, and stays there; its databases and who has them."""
        for path in (*self.host.home.glob("held-*"), *self.host.home.glob("go")):
            path.unlink()
        run = self.pytest("test_held.py", *arguments)
        wanted = 2 if "-n2" in arguments else 1
        assert until(lambda: len(self._held()) == wanted or run.process.poll() is not None, 60)
        assert run.process.poll() is None, run.end()
        return run, self._held()

    def let_go(self) -> None:
        """Let the run of `hold` go on."""
        (self.host.home / "go").touch()

    def read(self, name: str) -> str:
        """A file that its tests have written; empty where there is none."""
        path = self.host.home / name
        return path.read_text() if path.exists() else ""

    def _held(self) -> dict[str, int]:
        words = [path.read_text().split() for path in self.host.home.glob("held-*")]
        return {name: int(process) for process, name in (two for two in words if len(two) == 2)}


@dataclass(frozen=True)
class World:
    """What a test has."""

    server: Server
    one: Machine
    other: Machine
    foreign: set[str]

    def elefasts(self) -> set[str]:
        """The databases of elefast's."""
        return self.server.names() - self.foreign


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A network, where it may be made; all of it is gone afterwards."""
    try:
        network = Network()
    except NotAllowedError as error:
        if os.environ.get("TEST_HOSTS") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with network:
        yield network
    assert network.left == []


@pytest.fixture(scope="module")
def server(network: Network, elefast_root: Path) -> Iterator[Server]:
    """A server that listens on the network."""
    server = Server(elefast_root / "hosts")
    with (server.data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {network.range} scram-sha-256\n")
    server.start(listen_addresses=f"127.0.0.1,{network.address}")
    yield server
    server.stop()
    shutil.rmtree(server.data.parent)


@pytest.fixture(scope="module")
def machines(network: Network, server: Server, elefast_root: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two of them, with checkouts at different places; the password is in nothing that they said or wrote."""
    home = elefast_root / "machines"
    made: list[Machine] = []
    for name, place in (("north", "checkout"), ("south", "builds/7/shared")):
        host = network.host(name, home / name)
        checkout = host.home / place
        checkout.mkdir(parents=True)
        files = {"pyproject.toml": CONFIGURATION, "schema.py": SCHEMA, "conftest.py": SHARDS}
        for file, text in {**files, "test_notes.py": TESTS, "test_held.py": HELD}.items():
            (checkout / file).write_text(text)
        url = server.url.set(host=network.address).render_as_string(hide_password=False)
        env = {"ELEFAST_ENGINE__URL": url, "ELEFAST_ENGINE__ALLOW_REMOTE": "true", "PYTHONPATH": str(checkout)}
        made.append(Machine(host, checkout, env))
    yield made[0], made[1]
    for machine in made:
        machine.host.kill()
    said = [text for machine in made for text in machine.host.said]
    assert any("elefast" in text for text in said)
    told = [path for machine in made for path in machine.host.files() if PASSWORD.encode() in path.read_bytes()]
    shutil.rmtree(home)
    assert not [text for text in said if PASSWORD in text]
    assert not told


@pytest.fixture(scope="module")
def foreign(server: Server) -> set[str]:
    """Databases that look like elefast's and are not: for want of the check digest, or another role's."""
    server.ask("create role somebody")
    made = {"precious": "postgres", "elefast_d0123456789ab_1_00000000": "postgres"}
    made |= {str(Name("elefast", kind, "foreign00000", "1")): "somebody" for kind in (Kind.CLONE, Kind.DRAFT)}
    for name, owner in made.items():
        server.ask(f'create database "{name}" owner {owner}')
        server.ask(f"comment on database \"{name}\" is 'of {owner}'")
    return set(made)


@pytest.fixture
def world(server: Server, machines: tuple[Machine, Machine], foreign: set[str]) -> Iterator[World]:
    """The machines, and what is on the server that is not elefast's; that is not touched."""
    query = "select oid, datname, datdba, datallowconn, shobj_description(oid, 'pg_database') from pg_database"
    before = {row for row in server.ask(query) if row[1] in foreign}
    assert len(before) == len(foreign)
    yield World(server, *machines, foreign)
    assert {row for row in server.ask(query) if row[1] in foreign} == before

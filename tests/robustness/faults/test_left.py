"""Databases that somebody else drops, holds or breaks, and checkouts that share a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from elefast.errors import ElefastError
from elefast.postgres.names import Kind, Name, new_owner, new_serial
from tests.guarantees.projects.project_support import Project
from tests.robustness.faults.conftest import CONFIGURATION, Open, clear, works
from tests.robustness.faults.server import Server


def _of(server: Server, kind: Kind) -> list[str]:
    return [text for text in server.names() if (name := Name.parse(text)) and name.kind is kind]


def _template(server: Server) -> str:
    (name,) = _of(server, Kind.TEMPLATE)
    return name


@pytest.fixture(autouse=True)
def _clean(server: Server) -> None:
    """The only template is the one of this test."""
    clear(server)


@pytest.mark.fault("a test's database dropped by somebody else", how="DROP DATABASE WITH (FORCE) between clone and use")
def test_dropped_before_use(open_stack: Open, server: Server) -> None:
    """The test's own driver says that it does not exist; the tests after it have theirs."""
    with open_stack() as stack:
        works(stack)
        lent = stack.checkout("the unlucky one")
        server.ask(f'drop database "{lent.name}" with (force)')
        with pytest.raises(DBAPIError, match="does not exist"):
            lent.sync.engine.connect()
        assert lent.release(wait=True) == []
        works(stack)
        assert stack.service.take_leaks() == []


@pytest.mark.fault("ready databases dropped by somebody else", how="DROP DATABASE WITH (FORCE) of what was made ahead")
def test_ready_ones_dropped(open_stack: Open, server: Server) -> None:
    """What is handed out is there."""
    with open_stack() as stack:
        for _ in range(3):
            works(stack)
    waiting = _of(server, Kind.SPARE)
    assert waiting
    with open_stack() as stack:
        for name in waiting:
            server.ask(f'drop database if exists "{name}" with (force)')
        works(stack)


@pytest.mark.fault("a template dropped by somebody else", how="DROP DATABASE during the run")
def test_template_dropped(open_stack: Open, server: Server) -> None:
    """It is built again."""
    with open_stack(ELEFAST_POOL__SIZE="0") as stack:
        works(stack)
        name = _template(server)
        server.ask(f'alter database "{name}" with is_template false')
        server.ask(f'drop database "{name}"')
        works(stack)
        assert _template(server) != name


@pytest.mark.fault("a template that somebody opened", how="ALTER DATABASE ALLOW_CONNECTIONS true and a session on it")
def test_template_opened(open_stack: Open, server: Server) -> None:
    """Who knows what was done to it: another one is built, and that session goes on."""
    with open_stack(ELEFAST_POOL__SIZE="0") as stack:
        works(stack)
        name = _template(server)
        server.ask(f'alter database "{name}" with allow_connections true')
        with server.connect(database=name) as somebody:
            works(stack)
            assert somebody.execute("select 1").fetchone() == (1,)
    with open_stack() as stack:
        works(stack)


@pytest.mark.fault("a template that somebody is connected to", how="a session from before it was closed again")
def test_template_in_use(open_stack: Open, server: Server) -> None:
    """One error that names the session, which goes on; without it the next test works."""
    with open_stack(ELEFAST_POOL__SIZE="0") as stack:
        works(stack)
        name = _template(server)
        server.ask(f'alter database "{name}" with allow_connections true')
        with server.connect(database=name) as somebody:
            somebody.execute("set application_name = 'nosy monitoring'")
            server.ask(f'alter database "{name}" with allow_connections false')
            with pytest.raises(ElefastError, match=rf"{name}.*\n.*nosy monitoring \(pid \d+") as caught:
                stack.checkout()
            assert caught.value.code == "template-in-use"
            assert somebody.execute("select 1").fetchone() == (1,)
        works(stack)


@pytest.mark.fault("databases left by an interrupted DROP", how="UPDATE pg_database SET datconnlimit = -2")
@pytest.mark.parametrize("kind", list(Kind))
def test_invalid(open_stack: Open, server: Server, kind: Kind) -> None:
    """Nobody is given one, and it is dropped."""
    if kind in (Kind.TEMPLATE, Kind.SPARE):  # as the project has it
        with open_stack() as stack:
            for _ in range(3):
                works(stack)
        name, *_ = _of(server, kind)
        server.ask(f'alter database "{name}" with is_template false')
    else:
        name = str(Name("elefast", kind, new_owner(), new_serial()))
        server.ask(f'create database "{name}"')
    server.ask(f"update pg_database set datconnlimit = -2 where datname = '{name}'")
    with open_stack() as stack:
        works(stack)
        works(stack)
    assert name not in server.names()


@pytest.mark.fault("foreign invalid database", how="UPDATE pg_database SET datconnlimit = -2 of one without the mark")
def test_foreign_invalid(open_stack: Open, server: Server) -> None:
    """It stays: it is not elefast's to drop."""
    server.ask("create database precious")
    server.ask("update pg_database set datconnlimit = -2 where datname = 'precious'")
    with open_stack() as stack:
        works(stack)
    assert "precious" in server.names()
    server.ask("drop database precious")


CHECKOUT = """
import pytest
from sqlalchemy import text

@pytest.mark.parametrize("number", range(6))
def test_it(db, number):
    with db.engine.begin() as connection:
        assert connection.scalar(text("select branch from checkout")) == {branch!r}
        connection.execute(text("update checkout set branch = 'written'"))
"""


@pytest.mark.fault("two checkouts of one project at the same time", how="two runs at once, with other migrations")
def test_two_checkouts(project: Project, server: Server, tmp_path: Path) -> None:
    """Each has its own schema, and the second runs of both build nothing."""
    checkouts: dict[str, Path] = {}
    for branch in ("main", "feature"):
        checkouts[branch] = tmp_path / branch
        checkouts[branch].mkdir()
        (checkouts[branch] / "pyproject.toml").write_text(CONFIGURATION)
        (checkouts[branch] / "schema.sql").write_text(f"create table checkout as select text '{branch}' as branch;")
        (checkouts[branch] / "test_it.py").write_text(CHECKOUT.format(branch=branch))
    for template in ("built: ", "reused, "):
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts="],
                cwd=path,
                env={**os.environ, **project.env},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for path in checkouts.values()
        ]
        for run in runs:
            out, _ = run.communicate(timeout=180)
            assert run.returncode == 0, out
            assert template in out

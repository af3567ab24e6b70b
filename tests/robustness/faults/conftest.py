"""Servers that tests may break, a project on them, and the check that a fault leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import elefast
from elefast.postgres.names import Kind, Name
from tests.guarantees.projects.project_support import Project
from tests.robustness.faults.proxy import Proxy
from tests.robustness.faults.server import Server

CONFIGURATION = """
[project]
name = "faults"
[tool.elefast]
migrator = "sql"
[tool.elefast.sql]
files = ["schema.sql"]
"""

Open = Callable[..., AbstractContextManager[elefast.Stack]]


@pytest.fixture(scope="session")
def origin(elefast_root: Path) -> Iterator[Server]:
    """A cluster that is never started, for others to be copied from."""
    server = Server(elefast_root / "faults")
    yield server
    shutil.rmtree(server.data.parent)


@pytest.fixture(scope="module")
def server(origin: Server, elefast_root: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server for the tests of one module; who stops it or sets it up otherwise starts it again."""
    server = Server(elefast_root / request.module.__name__.rpartition(".")[2], like=origin)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.data.parent)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before the server, that forwards until it is told otherwise."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def behind(server: Server, proxy: Proxy) -> dict[str, str]:
    """An environment that names the server behind the proxy."""
    return {"ELEFAST_ENGINE__URL": server.url.set(port=proxy.port).render_as_string(hide_password=False)}


@pytest.fixture
def project(tmp_path: Path, server: Server) -> Iterator[Project]:
    """A project of one SQL file on the server; nothing but what elefast keeps is there afterwards."""
    before = server.names()
    project = Project(tmp_path, {**os.environ, "ELEFAST_ENGINE__URL": server.text, "PYTHONDONTWRITEBYTECODE": "1"})
    project.write("pyproject.toml", CONFIGURATION)
    project.write("schema.sql", f"create table note (body text);\n-- {tmp_path}\n")
    yield project
    left = set(unkept(server)) - before
    clear(server)
    assert not left


@pytest.fixture
def open_stack(project: Project) -> Open:
    """Open a stack of the project; what is given are changes of its environment, such as another URL."""

    @contextmanager
    def opened(**env: str) -> Iterator[elefast.Stack]:
        variables: Mapping[str, str] = {**project.env, **env}
        with elefast.from_config(project.path, env=variables) as stack:
            yield stack

    return opened


def unkept(server: Server) -> list[str]:
    """The databases that are no template and do not wait for the next run."""
    kept = (Kind.TEMPLATE, Kind.SPARE)
    return [text for text in server.names() if not ((name := Name.parse(text)) and name.kind in kept)]


def clear(server: Server) -> None:
    """Drop all databases."""
    server.ask("update pg_database set datistemplate = false where oid >= 16384")
    for name in server.names():
        server.ask(f'drop database "{name}" with (force)')


def works(stack: elefast.Stack) -> None:
    """A test would have its schema, empty, and could write."""
    lent = stack.checkout("works")
    try:
        with lent.sync.engine.begin() as connection:
            assert connection.exec_driver_sql("select count(*) from note").scalar() == 0
            connection.exec_driver_sql("insert into note values ('a')")
    finally:
        lent.release(wait=True)

"""While a template is built, code of the project can connect to it and to nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL

from elefast.errors import MigrationError
from elefast.migrators import Function, Plan
from tests.integration.migrators.migrator_support import Project, query, tables

# How code connects with each driver to host {h}, port {p} and database {d}, and what it does there.
_WAYS = {
    "psycopg": "import psycopg\n"
    "with psycopg.connect('host={h} port={p} dbname={d} user={u} password={w}') as c: c.execute({sql!r})",
    "psycopg keywords": "from psycopg import Connection\n"
    "with Connection.connect(host={h!r}, port={p}, dbname={d!r}, user={u!r}, password={w!r}) as c: c.execute({sql!r})",
    "psycopg async": "import asyncio, psycopg\nasync def go():\n"
    "    async with await psycopg.AsyncConnection.connect('postgresql://{u}:{w}@{h}:{p}/{d}') as c:\n"
    "        await c.execute({sql!r})\nasyncio.run(go())",
    "psycopg2": "import psycopg2\n"
    "c = psycopg2.connect(host={h!r}, port={p}, dbname={d!r}, user={u!r}, password={w!r})\n"
    "c.cursor().execute({sql!r}); c.commit()",
    "asyncpg": "import asyncio, asyncpg\nasync def go():\n"
    "    c = await asyncpg.connect(host={h!r}, port={p}, database={d!r}, user={u!r}, password={w!r})\n"
    "    await c.execute({sql!r}); await c.close()\nasyncio.run(go())",
    "asyncpg pool": "import asyncio, asyncpg\nasync def go():\n"
    "    async with asyncpg.create_pool('postgresql://{u}:{w}@{h}:{p}/{d}', min_size=1) as pool:\n"
    "        await pool.execute({sql!r})\nasyncio.run(go())",
    "pg8000": "import pg8000.native\nc = pg8000.native.Connection({u!r}, host={h!r}, port={p}, database={d!r}, "
    "password={w!r})\nc.run({sql!r}); c.close()",
    "SQLAlchemy": "import sqlalchemy\n"
    "with sqlalchemy.create_engine('postgresql+psycopg2://{u}:{w}@{h}:{p}/{d}').begin() as c: "
    "c.exec_driver_sql({sql!r})",
    "SQLAlchemy async": "import asyncio\nfrom sqlalchemy.ext.asyncio import create_async_engine\nasync def go():\n"
    "    engine = create_async_engine('postgresql+asyncpg://{u}:{w}@{h}:{p}/{d}')\n"
    "    async with engine.begin() as c: await c.exec_driver_sql({sql!r})\n    await engine.dispose()\n"
    "asyncio.run(go())",
}


def build(project: Project, template: URL, code: str) -> None:
    """Build with a function of the project that runs `code`."""
    project.write("creating.py", f"def create(connection):\n{textwrap.indent(code, '    ')}\n")
    Plan(root=project.root, migrator=Function("creating:create")).build(template)


def code_for(way: str, url: URL, *, host: str | None = None) -> str:
    """Code that makes a table ``made`` in the database at `url`."""
    return _WAYS[way].format(
        h=host or url.host, p=url.port, d=url.database, u=url.username, w=url.password, sql="CREATE TABLE made (id int)"
    )


@pytest.mark.parametrize("way", _WAYS)
def test_other_database_of_the_same_server(
    project: Project, template: URL, new_database: Callable[[], URL], way: str
) -> None:
    """No driver gets to another database, not even on the same server."""
    other = new_database()

    with pytest.raises(MigrationError) as caught:
        build(project, template, code_for(way, other))

    assert f'wanted to connect to database "{other.database}" on {other.host}:{other.port}' in str(caught.value)
    assert tables(other) == []


@pytest.mark.parametrize("way", _WAYS)
def test_template_itself(project: Project, template: URL, way: str) -> None:
    """Every driver gets to the template, also under another name of the same machine."""
    build(project, template, code_for(way, template, host="localhost"))

    assert tables(template) == ["made"]


def test_environment_of_libpq(project: Project, template: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without any argument leads to the template, whatever the variables of libpq were."""
    code = "import psycopg\nwith psycopg.connect() as c: c.execute('CREATE TABLE made (id int)')"

    with monkeypatch.context() as patch:
        patch.setenv("PGHOST", "db.example.invalid")
        patch.setenv("PGHOSTADDR", "192.0.2.1")
        patch.setenv("PGSERVICE", "production")
        patch.setenv("PGDATABASE", "production")
        build(project, template, code)

    assert tables(template) == ["made"]


@pytest.mark.parametrize("variable", ["PGHOSTADDR=192.0.2.1", "PGSERVICE=production", "PGDATABASE=production"])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_environment_that_the_code_changes(project: Project, template: URL, driver: str, variable: str) -> None:
    """A .env file that the code loads may name another server in libpq's own variables."""
    name, _, value = variable.partition("=")
    code = f"import os, {driver}\nos.environ[{name!r}] = {value!r}\n{driver}.connect('')"

    with pytest.raises(MigrationError, match=f"{driver} wanted to connect to .*{value}"):
        build(project, template, code)


def test_other_host(project: Project, template: URL) -> None:
    """Another host is refused even for a database of the template's name."""
    with pytest.raises(MigrationError, match=r"192\.0\.2\.1"):
        build(project, template, code_for("psycopg keywords", template, host="192.0.2.1"))


def test_service_of_libpq(project: Project, template: URL) -> None:
    """A service, of which only libpq knows where it leads, is refused."""
    with pytest.raises(MigrationError, match="service=production"):
        build(project, template, "import psycopg\npsycopg.connect('service=production')")


def test_any_other_socket(project: Project, template: URL) -> None:
    """What no driver is known for is refused as a socket."""
    with pytest.raises(MigrationError, match=r"a socket wanted to connect to 127\.0\.0\.1:9"):
        build(project, template, "import socket\nsocket.create_connection(('127.0.0.1', 9))")


def test_refusal_that_was_swallowed(project: Project, template: URL) -> None:
    """A connection that was refused is named even where the code made another error of it."""
    code = (
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\n"
        "except OSError:\n    raise RuntimeError('no idea why') from None"
    )
    with pytest.raises(MigrationError, match=r"no idea why(?s:.*)a socket wanted to connect to 127\.0\.0\.1:9"):
        build(project, template, code)


def test_unix_socket_of_the_template(project: Project, template: URL) -> None:
    """The server's own Unix socket leads to the template as well."""
    rows = query(template, "SHOW unix_socket_directories")
    directory = rows[0][0].split(",")[0].strip()
    if not Path(directory, f".s.PGSQL.{template.port}").exists():
        pytest.skip("the server has no socket that can be seen from here")

    build(project, template, code_for("psycopg keywords", template, host=directory))

    assert tables(template) == ["made"]

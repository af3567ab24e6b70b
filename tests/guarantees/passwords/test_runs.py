"""Runs of pytest: a password is in nothing that they print, log, write, start or ask of the server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.guarantees.passwords.world import World
from tests.robustness.faults.proxy import Proxy

Environment = Callable[[World], dict[str, str]]

SQL = 'migrator = "sql"\nsql.files = ["schema.sql"]\n'
ALEMBIC = 'migrator = "alembic"\n'
METADATA = 'migrator = "metadata"\nmetadata.target = "app:Base"\n'
COMMAND = 'migrator = "command"\ncommand.run = ["{python}", "migrate.py", "schema.sql"]\ncommand.env = ["URL"]\n'


def _in_url(world: World) -> dict[str, str]:
    return {"ELEFAST_ENGINE__URL": world.url()}


def _in_options(world: World) -> dict[str, str]:
    text = world.url()
    login, _, rest = text.partition("://app:")[2].partition("@")
    return {"ELEFAST_ENGINE__URL": f"postgresql://{rest}?user=app&password={login}"}


def _in_options_of_driver(world: World) -> dict[str, str]:
    return {name: url.replace("://", "+psycopg://") for name, url in _in_options(world).items()}


def _in_file(world: World) -> dict[str, str]:
    escaped = world.secret.text.replace("\\", r"\\").replace(":", r"\:")
    file = world.path.parent / "passwords"  # of the user's own, and not where elefast writes
    file.write_text(f"127.0.0.1:*:*:app:{escaped}\n")
    file.chmod(0o600)
    return {"ELEFAST_ENGINE__URL": world.url(password=False), "PGPASSFILE": str(file)}


def _in_variable(world: World) -> dict[str, str]:
    return {"ELEFAST_ENGINE__URL": world.url(password=False), "PGPASSWORD": world.secret.text}


@dataclass(frozen=True)
class Row:
    """One way to give elefast a password, and one way to work with it."""

    name: str
    environment: Environment
    keys: str
    arguments: tuple[str, ...] = ()


ROWS = (
    Row("url-sql-psycopg", _in_url, SQL),
    Row("url-alembic-workers", _in_url, ALEMBIC, ("-n", "2")),
    Row("url-command-psycopg2", _in_url, COMMAND + 'engine.driver = "psycopg2"\n'),
    Row("options-metadata-pg8000", _in_options, METADATA + 'engine.driver = "pg8000"\n'),
    Row("options-of-driver-alembic", _in_options_of_driver, ALEMBIC + 'engine.driver = "psycopg"\n'),
    # asyncpg reads no escapes in the file, and what it says then is its own.
    Row("file-command", _in_file, COMMAND + 'engine.async_driver = "psycopg"\n'),
    Row("variable-command", _in_variable, COMMAND),
    Row("kept-workers", _in_url, SQL + 'keep = "failed"\nengine.echo = true\n', ("-n", "2")),
    Row("transaction", _in_url, SQL + 'isolation = "transaction"\nleaks = "error"\n'),
)


@pytest.mark.fault("a password in what a run shows, writes or starts", how="a search of all of it for a random one")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_run(world: World, row: Row) -> None:
    """It is nowhere; another one that the tests give away is found in each of these places."""
    world.configure(row.keys.replace("{python}", sys.executable))
    try:
        done = world.pytest(*row.arguments, env=row.environment(world))
        assert "provider  url" in done.text, done.text
        assert world.plant.is_in(world.logged())
    finally:
        world.clear()


def _refused(world: World) -> dict[str, str]:
    """The secret is a password that the server does not take."""
    return {"ELEFAST_ENGINE__URL": world.url().replace("://app:", "://postgres:")}


REVISION = """
import os
revision, down_revision = "0001", None

def upgrade():
    print(os.environ)
    raise RuntimeError(str(dict(os.environ)) + os.environ.get("DATABASE_URL", "no variable"))
"""
SAYING = """
import os
from alembic import context

url = context.config.get_main_option("sqlalchemy.url")
print(url)
raise ValueError(f"no good: {url} {context.config.attributes}")
"""
DIRECTLY = """
import logging
import elefast
import pytest

@pytest.fixture(scope="session")
def stack():
    return elefast.from_config()

def test_in_a_fixture(db):
    pass

def test_directly(stack):
    stack.checkout("directly")

def test_the_server(stack):
    with stack.server.create_database():
        pass

def test_logged(stack):
    try:
        stack.server.ensure_is_ready(0.1)
    except elefast.errors.ElefastError:
        logging.getLogger("app").exception("%r", stack)
        raise

async def test_async(stack):
    async with await stack.async_server.create_database():
        pass
"""


@dataclass(frozen=True)
class Failure(Row):
    """A run in which no test gets a database."""

    says: str = ""
    files: tuple[tuple[str, str], ...] = ()


FAILURES = (
    Failure("password", _refused, SQL, says="password authentication failed"),
    Failure("sql", _in_url, SQL, says="schema.sql:1", files=(("schema.sql", "selekt"),)),
    Failure("revision", _in_url, ALEMBIC, says="no good", files=(("migrations/env.py", SAYING),)),
    Failure("env.py", _in_options, ALEMBIC, says="0001.py", files=(("migrations/versions/0001.py", REVISION),)),
    Failure("command", _in_url, COMMAND, says="failed with exit status 1", files=(("schema.sql", "selekt"),)),
    Failure("command-file", _in_file, COMMAND, says="failed with exit status 1", files=(("schema.sql", "selekt"),)),
)


@pytest.mark.fault(
    "a password in what a run says that fails", how="wrong passwords, migrations that print all they have"
)
@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.name)
def test_a_failure(world: World, row: Failure) -> None:
    """It is nowhere, neither with each frame's local variables nor in chains of exceptions."""
    world.configure(row.keys.replace("{python}", sys.executable))
    world.write("test_it.py", DIRECTLY)
    for name, text in row.files:
        world.write(name, text)
    try:
        done = world.pytest("--full-trace", plants=False, env=row.environment(world))
        assert done.status == 1
        assert row.says in done.text
    finally:
        world.clear()


@pytest.mark.fault("a server that cuts the connection", how="a proxy that resets it at CREATE DATABASE, every time")
def test_a_server_that_cuts(world: World) -> None:
    """What is said of it has no password."""
    world.write("test_it.py", DIRECTLY)
    with Proxy(world.server.port) as proxy:
        proxy.refuse(1000)
        url = world.url(port=proxy.port)
        done = world.pytest("--full-trace", "-k", "logged or server", plants=False, env={"ELEFAST_ENGINE__URL": url})
    assert done.status == 1
    assert "did not answer within" in done.text

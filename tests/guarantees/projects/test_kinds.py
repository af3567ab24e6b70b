"""A project of each kind, with its own tests."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import make_url

from tests.guarantees.projects.project_support import Project
from tests.support.dumps import pg_dumps

MODELS = """
from sqlalchemy import Enum, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): pass

class Author(Base):
    __tablename__ = "author"
    __table_args__ = {"schema": "library"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(Enum("novelist", "poet", name="kind", schema="types"))

class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("library.author.id"))
"""

TWO_TESTS = """
import pytest
from sqlalchemy import text

@pytest.mark.parametrize("number", [1, 2])
def test_a_private_database(db_session, number):
    assert db_session.scalar(text("select count(*) from {table}")) == {rows}
    db_session.execute(text("{insert}"))
    db_session.commit()
"""


def two_tests(table: str, insert: str, rows: int = 0) -> str:
    """Two tests that each find the table as the template has it."""
    return TWO_TESTS.format(table=table, insert=insert, rows=rows)


def test_metadata(project: Project) -> None:
    """Models in two schemas, an enum in a third."""
    project.write("library/__init__.py", "")
    project.write("library/models.py", MODELS)
    project.write("pyproject.toml", '[tool.elefast.metadata]\ntarget = "library.models:Base.metadata"\n')
    project.write("test_it.py", two_tests("library.author", "insert into library.author (kind) values ('poet')"))
    assert "2 passed" in project.pytest("-W", "error").text
    assert project.pytest().template.startswith("reused")
    project.write("library/models.py", MODELS.replace('"poet"', '"poet", "critic"'))
    assert project.pytest().template == "built: changed type types.kind"


def test_sql_files_and_a_real_dump(project: Project, server_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What pg_dump writes, then a migration on top of it."""
    dump = _pg_dump(server_url)
    project.write("db/0001_dump.sql", dump)
    project.write("db/0002_more.sql", 'alter table shop.item add column note text default $x$it\'s; "fine"$x$;\n')
    project.write("pyproject.toml", '[tool.elefast.sql]\nfiles = ["db/*.sql"]\n')
    project.write("test_it.py", two_tests("shop.item", "insert into shop.item (name) values ('x')", rows=2))
    assert "2 passed" in project.pytest().text


def _pg_dump(server_url: str) -> str:
    """A dump of a schema with most of what a dump can have."""
    import psycopg

    url = make_url(server_url)
    if not pg_dumps():
        pytest.skip("no pg_dump on this machine")
    plain = server_url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("create database dumped")
        try:
            with psycopg.connect(plain.rpartition("/")[0] + "/dumped", autocommit=True) as inside:
                inside.execute(
                    """
                    create schema shop;
                    create table shop.item (id int generated always as identity primary key, name text not null);
                    insert into shop.item (name) values (E'tab\\there; and \\\\. backslash'), ('line\nbreak');
                    create function shop.twice(n int) returns int language plpgsql as $f$
                    begin return n * 2; -- ; '
                    end $f$;
                    create view shop.names as select name from shop.item;
                    comment on table shop.item is 'it''s; commented';
                    """
                )
            return subprocess.run(
                [pg_dumps()[0], "--no-owner", plain.rpartition("/")[0] + "/dumped"],
                capture_output=True,
                text=True,
                check=True,
                env={"PGPASSWORD": url.password or ""},
            ).stdout
        finally:
            connection.execute("drop database dumped")


def test_a_command(project: Project) -> None:
    """Any program that migrates; kept only with `template.watch`, which the summary says."""
    project.write(
        "migrate.py",
        "import os, psycopg\n"
        "assert os.environ['APP_URL'].startswith('postgresql://')\n"
        "with psycopg.connect('') as c: c.execute('create table thing (id int)')\n",
    )
    configuration = f'[tool.elefast.command]\nrun = ["{sys.executable}", "migrate.py"]\nenv = ["APP_URL"]\n'
    project.write("pyproject.toml", configuration)
    project.write("test_it.py", two_tests("thing", "insert into thing values (1)"))
    first = project.pytest()
    assert "2 passed" in first.text
    assert first.template == "built for this run: command without template.watch"
    project.write("pyproject.toml", configuration + '[tool.elefast.template]\nwatch = ["migrate.py"]\n')
    assert project.pytest().template.startswith("built: ")
    assert project.pytest().template.startswith("reused")


def test_an_async_callable_and_an_app_that_reads_its_url_at_import(project: Project) -> None:
    """FastAPI on asyncpg with a module-level engine: healed by `patch`, without a line changed."""
    project.write("shop/__init__.py", "")
    project.write(
        "shop/app.py",
        """
import os
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine)
app = FastAPI()

@app.post("/notes")
async def add():
    async with sessions() as session:
        await session.execute(text("insert into note values ('x')"))
        await session.commit()

@app.get("/notes")
async def count():
    async with sessions() as session:
        return await session.scalar(text("select count(*) from note"))
""",
    )
    project.write(
        "shop/testing.py",
        "from sqlalchemy import text\n"
        "async def create(connection):\n"
        "    await connection.execute(text('create table note (body text)'))\n",
    )
    project.write(
        "pyproject.toml",
        """
[tool.elefast]
export_env = ["DATABASE_URL=postgresql+asyncpg"]
patch = ["shop.app:sessions"]
[tool.elefast.callable]
target = "shop.testing:create"
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
pythonpath = ["."]
filterwarnings = ["error"]
""",
    )
    project.write(
        "test_it.py",
        """
import httpx, pytest
from sqlalchemy import text
from shop.app import app, engine

@pytest.fixture
def client(async_db):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop")

@pytest.mark.parametrize("number", [1, 2])
async def test_notes(client, async_db_session, number):
    async with client:
        assert (await client.get("/notes")).json() == 0
        await client.post("/notes")
        assert (await client.get("/notes")).json() == 1
    assert await async_db_session.scalar(text("select count(*) from note")) == 1

def test_without_a_database_the_app_reaches_nothing():
    assert engine.url.host == "request-the-db-fixture.elefast.invalid"
""",
    )
    assert "3 passed" in project.pytest().text
    assert "3 passed" in project.pytest("-n", "2").text


def test_nothing_but_seeds_and_extensions(project: Project) -> None:
    """No migrator; a function and a file in order, an extension before them."""
    project.write(
        "seeding.py", "from sqlalchemy import text\ndef load(c): c.execute(text('create table t (w text)'))\n"
    )
    project.write("seed.sql", "insert into t values (similarity('a', 'b')::text);\n")
    project.write(
        "pyproject.toml",
        '[tool.elefast]\nmigrator = "none"\nextensions = ["pg_trgm"]\nseed = ["seeding:load", "seed.sql"]\n',
    )
    project.write("test_it.py", two_tests("t", "insert into t values ('x')", rows=1))
    assert "2 passed" in project.pytest().text

"""A whole project with tenants: five tables with policies, tests as a role, and what fails when something is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TABLES = ("customer", "invoice", "note", "product", "shipment")

SCHEMA = """
create schema shop;
grant usage on schema shop to ROLE;
create table shop.{name} (id int primary key, tenant int not null);
alter table shop.{name} enable row level security;
alter table shop.{name} force row level security;
create policy {name}_tenant on shop.{name} using (tenant = nullif(current_setting('app.tenant', true), '')::int);
grant select, insert on shop.{name} to ROLE;
"""

APP = """
import os
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
make_session = sessionmaker(engine)

def ids(session: Session, table: str, tenant: int) -> list[int]:
    session.execute(text(f"select set_config('app.tenant', '{tenant}', true)"))
    return list(session.scalars(text(f"select id from shop.{table} where tenant = {tenant} order by id")))
"""

TESTS = """
import asyncio, os

import app, pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

TABLES = ("customer", "invoice", "note", "product", "shipment")

@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("table", TABLES)
def test_a_tenant_reads_and_writes_its_rows(db_session, table, number):
    db_session.execute(text("select set_config('app.tenant', '1', true)"))
    db_session.execute(text(f"insert into shop.{table} values (10, 1)"))
    assert app.ids(db_session, table, 1) == [1, 10]

@pytest.mark.parametrize("table", TABLES)
def test_the_application_has_the_role(db_session, table):
    with app.make_session() as session:
        assert app.ids(session, table, 2) == [2]
    who = db_session.scalar(text("select session_user"))
    if os.environ["EXPECTED"]:
        assert who == os.environ["EXPECTED"]
        if not os.environ["EXPECTED_ISOLATION"] == "transaction":
            assert make_url(os.environ["DATABASE_URL"]).username == who

@pytest.mark.skipif(not os.environ["EXPECTED"], reason="a superuser sees all rows")
@pytest.mark.parametrize("table", TABLES)
def test_a_tenant_sees_no_other(db, table):
    with db.as_role(os.environ["EXPECTED"], settings={"app.tenant": 1}) as tenant, tenant.session() as session:
        assert session.scalar(text(f"select count(*) from shop.{table}")) == 1

def test_async(async_db):
    async def use():
        async with async_db.session() as session:
            await session.execute(text("select set_config('app.tenant', '1', true)"))
            assert await session.scalar(text("select count(*) from shop.note where tenant = 1")) == 1
            return await session.scalar(text("select current_user"))
    who = asyncio.run(use())
    assert who == os.environ["EXPECTED"] or not os.environ["EXPECTED"]

def test_the_server_user(db):
    with db.as_role("") as owner, owner.session() as session:
        assert session.scalar(text("select count(*) from shop.note")) == 2
"""


def _schema() -> str:
    head, *rest = SCHEMA.strip().split("\ncreate table", 1)
    each = "create table" + rest[0]
    lines = [head, *(each.format(name=name) for name in TABLES)]
    lines += [f"insert into shop.{name} values (1, 1), (2, 2);" for name in TABLES]
    # Elefast's own work must not be disturbed by these.
    lines.append("alter default privileges revoke all on tables from public;")
    return "\n".join(lines)


@pytest.fixture(params=["local", "url"])
def provider(request: pytest.FixtureRequest) -> str:
    """A server of elefast's own, or one that is given by its URL."""
    return str(request.param)


@pytest.fixture
def run(tmp_path: Path, env: dict[str, str], role: str, provider: str) -> Iterator[Run]:
    """Runs pytest in the project; at the end its templates and roles are dropped, or its server is gone."""
    mine = {key: value for key, value in env.items() if provider == "url" or key != "ELEFAST_ENGINE__URL"}

    def call(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env={**mine, **more},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def run(
        *words: str, schema: str = "", tests: str = TESTS, as_role: bool = True, isolation: str = "database"
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "schema.sql").write_text((schema or _schema()).replace("ROLE", role))
        (tmp_path / "app.py").write_text(APP)
        (tmp_path / "test_shop.py").write_text(tests)
        (tmp_path / "pyproject.toml").write_text(
            f'[project]\nname = "{role}"\n[tool.pytest.ini_options]\npythonpath = ["."]\n'
            f'[tool.elefast]\nprovider = "{provider}"\nmigrator = "sql"\nsql.files = ["schema.sql"]\n'
            f'export_env = ["DATABASE_URL"]\npatch = ["app:engine", "app:make_session"]\n'
            f'isolation = "{isolation}"\nlocal.reuse = false\n'
            + (f'role = "{role}"\n' if as_role else "")
            + f"[tool.elefast.roles.{role}]\n"
        )
        expected = role if as_role else ""
        return call("pytest", "-p", "no:cacheprovider", *words, EXPECTED=expected, EXPECTED_ISOLATION=isolation)

    yield run
    if provider == "url":
        call("elefast.cli", "prune", "--all")


def _failed(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"^FAILED \S+?::(\S+)", done.stdout, re.MULTILINE))


def test_a_project_passes_as_its_role(run: Run) -> None:
    """With both isolations, and with workers; no warning about policies."""
    for words, isolation in ((["-n", "2"], "database"), ([], "transaction")):
        done = run(*words, isolation=isolation)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "row-level security" not in done.stdout


MUTATIONS = {
    "a policy dropped": (r"create policy note_tenant [^;]*;", "", "test_a_tenant_reads_and_writes_its_rows[note-0]"),
    "a grant missing": (
        r"grant select, insert on shop.note [^;]*;",
        "",
        "test_a_tenant_reads_and_writes_its_rows[note-0]",
    ),
    "a policy too permissive": (
        r"(create policy note_tenant [^;]*);",
        r"\1 or true);",
        "test_a_tenant_sees_no_other[note]",
    ),
}


@pytest.mark.parametrize("provider", ["url"], indirect=True)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mistake_fails_as_the_role_and_passes_as_superuser(run: Run, mutation: str) -> None:
    """A test fails because of the mistake, which no test of a superuser notices."""
    pattern, by, test = MUTATIONS[mutation]
    wrong, count = re.subn(pattern, by, _schema())
    wrong = wrong.replace(") or true", " or true")
    assert count == 1
    done = run("-k", "note or customer or async", schema=wrong)
    assert test in _failed(done), done.stdout
    assert all("note" in name or name == "test_async" for name in _failed(done))
    done = run("-k", "note or customer or async", schema=wrong, as_role=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("provider", ["url"], indirect=True)
def test_one_warning_for_a_superuser(run: Run, role: str) -> None:
    """The summary says once, also with workers, that policies do not apply, with the line to add."""
    done = run("-n", "2", "-q", as_role=False)
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "row-level security" in line]
    assert line.startswith("warning   5 tables have row-level security, and tests connect as ")
    assert line.endswith(f'Add to [tool.elefast]: role = "{role}"')


@pytest.mark.parametrize("provider", ["url"], indirect=True)
def test_an_owner_bypasses_what_is_not_forced(run: Run, role: str) -> None:
    """A role that owns the tables sees all rows unless the policies are forced."""
    owned = _schema().replace("alter default", f"alter table shop.note owner to {role};\nalter default")
    words = ["-k", "test_the_server_user"]
    assert "row-level" not in run(*words, schema=owned).stdout
    done = run(*words, schema=owned.replace("alter table shop.note force", "alter table shop.note no force"))
    assert done.returncode == 0, done.stdout
    assert f"5 tables have row-level security, and tests connect as {role}" in done.stdout

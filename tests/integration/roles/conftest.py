"""Projects with roles, on a server that is given by its URL, and a connection of the superuser to it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

import elefast
from elefast.postgres.sql import identifier

Start = Callable[..., elefast.Stack]

TENANTS = """
create table note (tenant int not null, body text);
alter table note enable row level security;
create policy tenant_only on note using (tenant = nullif(current_setting('app.tenant', true), '')::int);
insert into note values (1, 'one'), (2, 'two');
"""


@pytest.fixture
def env(server_url: str) -> dict[str, str]:
    """An environment that names the server of these tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ELEFAST_", "TESTING_DB"))}
    return {**kept, "ELEFAST_ENGINE__URL": server_url}


@pytest.fixture
def admin(server_url: str) -> Iterator[psycopg.Connection]:
    """A connection of the superuser."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


@pytest.fixture
def role(admin: psycopg.Connection) -> Iterator[str]:
    """A name that no role has; whatever has it, or begins with it, is gone at the end."""
    name = f"app_{uuid.uuid4().hex[:12]}"
    yield name
    for (left,) in admin.execute("select rolname from pg_roles where starts_with(rolname, %s)", [name]).fetchall():
        admin.execute(f"drop role {identifier(left)}".encode())


@pytest.fixture
def start(tmp_path: Path, env: dict[str, str], role: str) -> Iterator[Start]:
    """Makes stacks of a project with `TENANTS`; at the end its templates and roles are gone."""
    with ExitStack() as stacks:

        def start(text: str = TENANTS, *, project: str = "", **overrides: object) -> elefast.Stack:
            place = tmp_path / (project or "one")
            place.mkdir(exist_ok=True)
            (place / "schema.sql").write_text(text.replace("@role@", role))
            name = f"{project or 'one'}-{role}"
            (place / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n[tool.elefast]\nmigrator = "sql"\n')
            keys: dict[str, object] = {"sql__files": ["schema.sql"], "role": role, "roles": {role: {"grants": "write"}}}
            return stacks.enter_context(
                elefast.from_config(place, env=env, **{**keys, **overrides})  # type: ignore[arg-type]
            )

        yield start
    (tmp_path / "elefast.toml").write_text('migrator = "none"\n')
    with elefast.from_config(tmp_path, env=env) as stack:
        stack.admin().prune(templates=True, all_projects=True)
        stack.admin().prune_roles(all_projects=True)

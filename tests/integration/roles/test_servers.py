"""Roles on a shared server: whose they are, which password they have, and what stays of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

import elefast
from elefast.errors import ConfigurationError, DatabaseNotReadyError, MigrationError, MissingRightsError
from elefast.postgres import roles
from elefast.postgres.roles import Role, ServerUser
from elefast.postgres.sql import identifier
from tests.integration.roles.conftest import TENANTS, Start
from tests.support.dumps import pg_dumps

COUNT = text("select count(*) from note")


def _row(admin: psycopg.Connection, role: str) -> object:
    """Everything about a role: its row with the password, its comment, memberships and settings."""
    query = """
        select to_jsonb(a), shobj_description(a.oid, 'pg_authid'),
               (select jsonb_agg(to_jsonb(m) order by roleid) from pg_auth_members m where a.oid in (roleid, member)),
               (select jsonb_agg(to_jsonb(s)) from pg_db_role_setting s where setrole = a.oid)
        from pg_authid a where rolname = %s
    """
    return admin.execute(query, [role]).fetchone()


def _prune(stack: elefast.Stack) -> dict[str, str]:
    stack.admin().prune(templates=True)
    return stack.admin().prune_roles()[1]


# -- foreign roles ------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(admin: psycopg.Connection, role: str) -> object:
    """A role that elefast has not created, with settings, a password and a comment of its own."""
    admin.execute(f"create role {role} login createdb password 'secret of its own'".encode())
    admin.execute(f"alter role {role} set application_name = 'mine'".encode())
    admin.execute(f"""comment on role {role} is '{{"elefast_role": 1, "role": "another"}}'""".encode())
    return _row(admin, role)


def test_a_foreign_role_is_used_with_its_own_password(
    start: Start,
    role: str,
    admin: psycopg.Connection,
    foreign: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The password comes from libpq's file; neither a run nor prune changes anything of the role."""
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:{role}:secret of its own\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    stack = start()
    database = stack.checkout("a test")
    with database.sync.session() as session:
        assert session.scalar(text("select session_user")) == role
    assert database.url.password is None
    database.release(wait=True)
    stack.close()
    assert _row(admin, role) == foreign
    assert _prune(start(role="")) == {}
    assert _row(admin, role) == foreign


def test_a_foreign_role_without_a_known_password_is_one_error(
    start: Start, role: str, admin: psycopg.Connection, foreign: object
) -> None:
    """The message says where the password goes; the role is as before."""
    stack = start()
    with pytest.raises(DatabaseNotReadyError, match=r"~/\.pgpass") as caught:
        _ = stack.checkout("a test").url
    assert caught.value.code == "role-login"
    stack.close()
    assert _row(admin, role) == foreign


def test_the_mark_of_another_server_is_none(start: Start, role: str, admin: psycopg.Connection) -> None:
    """A dump of all roles takes comments to other servers, where the role is foreign."""
    stack = start()
    stack.service.manager.template()
    stack.close()
    admin.execute(
        f"""
        do $$ begin execute format('comment on role {role} is %L', replace(shobj_description('{role}'::regrole,
        'pg_authid'), '"system": "', '"system": "1')); end $$
    """.encode()
    )
    before = _row(admin, role)
    again = start(role="")
    _prune(again)
    again.close()
    assert _row(admin, role) == before


# -- elefast's roles ----------------------------------------------------------------------------------------


def test_the_password_is_corrected_and_equal_everywhere(start: Start, role: str, admin: psycopg.Connection) -> None:
    """Two stacks derive the same; a changed password, attribute or membership is as declared in the next run."""
    first, second = start(), start(pool={"size": 0})
    one, other = first.checkout(), second.checkout()
    assert one.url.password == other.url.password
    assert str(one.url.password) not in f"{first!r} {first.service.manager.roles.declared!r} {one.sync!r}"
    admin.execute(f"alter role {role} password 'other' bypassrls createdb nologin".encode())
    one.release(wait=True)
    first.close()
    other.release(wait=True)
    database = start(pool={"size": 1}).checkout()
    with database.sync.session() as session:
        assert session.scalar(COUNT) == 0
    database.release(wait=True)
    found = admin.execute("select rolbypassrls, rolcreatedb, rolcanlogin from pg_roles where rolname = %s", [role])
    assert found.fetchone() == (False, False, True)


def test_two_projects_share_a_role(start: Start, role: str, admin: psycopg.Connection) -> None:
    """It stays as long as a template of either needs it, or a run uses it."""
    one, two = start(project="one"), start(project="two")
    for stack in (one, two):
        stack.checkout().release(wait=True)
    one.close()
    one = start(project="one", role="", roles={})
    assert _prune(one)[role].endswith("uses it")
    two.close()
    assert _prune(one) == {role: f"a template of two-{role} needs it"}
    two = start(project="two", role="", roles={})
    assert _prune(two) == {}
    assert _row(admin, role) is None


def test_two_projects_that_disagree(start: Start, role: str) -> None:
    """One of them gets an error with both declarations."""
    one = start(project="one")
    one.service.manager.template()
    two = start(project="two", roles={role: {"bypass_rls": True}})
    with pytest.raises(
        ConfigurationError, match=f'project "one-{role}" declares this role of the same server'
    ) as caught:
        two.service.manager.template()
    assert caught.value.code == "role-conflict"


def test_on_an_own_server_as_well(start: Start, role: str, elefast_root: Path) -> None:
    """Two projects on one server that elefast starts, and a role of that name that it has not created."""
    own = {"provider": "local", "local": {"data_dir": str(elefast_root / f"shared-{role}"), "reuse": False}}
    declared: dict[str, dict[str, str]] = {role: {"grants": "write"}, f"{role}_x": {}}
    keeper = start("select 1;", project="keeper", role="", roles={}, **own)
    with psycopg.connect(keeper.url.set(drivername="postgresql").render_as_string(hide_password=False)) as server:
        server.autocommit = True
        server.execute(f"create role {role}_x".encode())
        before = _row(server, f"{role}_x")
        one, two = (start(project=name, roles=declared, **own) for name in ("one", "two"))
        for stack in (one, two):
            database = stack.checkout()
            with database.sync.session() as session:
                assert session.scalar(text("select session_user")) == role
            database.release(wait=True)
            stack.close()
        assert _prune(start(project="one", role="", roles={}, **own)) == {role: f"a template of two-{role} needs it"}
        assert _prune(start(project="two", role="", roles={}, **own)) == {}
        assert _row(server, role) is None
        assert _row(server, f"{role}_x") == before


KILLED = """
import os, signal, elefast
roles = {{{role!r}: {{"grants": "write"}}}}
stack = elefast.from_config({place!r}, sql__files=["schema.sql"], role={role!r}, roles=roles)
stack.checkout("a test")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_nothing_that_prune_does_not_drop(
    start: Start, role: str, admin: psycopg.Connection, env: dict[str, str], tmp_path: Path
) -> None:
    """Its databases go first, and then its roles."""
    stack = start()
    program = KILLED.format(place=str(tmp_path / "one"), role=role)
    done = subprocess.run([sys.executable, "-c", program], env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert _row(admin, role)
    assert _prune(stack) == {}
    assert _row(admin, role) is None
    databases = admin.execute("select shobj_description(oid, 'pg_database') from pg_database").fetchall()
    assert not [comment for (comment,) in databases if comment and role in comment]


def test_a_migration_that_creates_a_declared_role(start: Start, role: str) -> None:
    """The error says that the role is there because it is declared, and how the migration goes on."""
    stack = start("create role @role@;")
    with pytest.raises(MigrationError, match=r"because of \[tool\.elefast\.roles\.") as caught:
        stack.checkout()
    assert "EXCEPTION WHEN duplicate_object" in str(caught.value)
    assert "DROP ROLE" not in str(caught.value)


# -- a server's user that is no superuser -------------------------------------------------------------------


@pytest.fixture
def user(admin: psycopg.Connection, role: str, env: dict[str, str]) -> str:
    """A user that may create databases and roles; the environment leads to it."""
    name = f"{role}_user"
    admin.execute(f"create role {name} login createdb createrole password 'weak'".encode())
    url = make_url(env["ELEFAST_ENGINE__URL"]).set(username=name, password="weak")
    env["ELEFAST_ENGINE__URL"] = url.render_as_string(hide_password=False)
    return name


def test_an_ordinary_user_creates_roles_and_loads_objects_of_theirs(start: Start, role: str, user: str) -> None:
    """It ends the sessions of a role, drops databases with objects of it, and drops the role."""
    text_ = TENANTS + "grant create on schema public to @role@;\nalter table note owner to @role@;\n"
    stack = start(text_, roles={role: {}}, pool={"size": 0})
    database = stack.checkout("a test")
    with database.sync.session() as session:
        assert session.scalar(text("select session_user")) == role
    leaked = psycopg.connect(database.dsn)
    (leak,) = database.release(wait=True)
    assert "left a connection open" in leak.what
    leaked.close()
    another = stack.checkout_transaction("another test")
    with another.sync.session() as session:
        assert session.scalar(text("select session_user")) == role
    another.release()
    stack.close()
    assert _prune(start(role="", roles={})) == {}


def test_an_ordinary_user_sets_its_roles_password_anew(
    start: Start, role: str, user: str, admin: psycopg.Connection
) -> None:
    """It cannot read the password, so it tries it."""
    start().checkout().release(wait=True)
    admin.execute(f"alter role {role} password 'other'".encode())
    database = start(pool={"size": 0}).checkout()
    with database.sync.session() as session:
        assert session.scalar(text("select session_user")) == role
    database.release(wait=True)


def test_a_user_without_the_right_gets_the_statements(
    start: Start, role: str, user: str, admin: psycopg.Connection
) -> None:
    """One error has the SQL to run, without any password."""
    admin.execute(f"alter role {user} nocreaterole".encode())
    with pytest.raises(MissingRightsError, match=f'role "{role}" does not exist') as caught:
        start().service.manager.template()
    shown = str(caught.value)
    assert f"    CREATE ROLE {identifier(role)} LOGIN;\n    GRANT {identifier(role)} TO {identifier(user)};" in shown
    assert f"ALTER ROLE {identifier(user)} CREATEROLE;" in shown
    assert "PASSWORD" not in shown
    assert "SCRAM" not in shown


# -- passwords ----------------------------------------------------------------------------------------------


def test_no_statement_has_the_password() -> None:
    """The server gets a hash, which is right for this password only."""
    user = ServerUser("me", True, True, "1", 180000, 4096, "of the server")
    password = "4f3c2a"
    statements = roles.changes(Role("app", ("other",), True), None, user, password, "shop")
    assert password not in str(statements)
    assert user.password not in f"{user!r} {user}"
    verifier = statements[0].rpartition("PASSWORD ")[2].strip("'")
    assert roles.verifies(verifier, password)
    assert not roles.verifies(verifier, "4f3c2b")
    assert not roles.verifies("md5d41d8cd98f00b204e9800998ecf8427e", password)


FAILING = """
import pytest
def test_fails(db, db_session, async_db):
    url, maker = db.url, db.sessionmaker
    with db.as_role("") as owner:
        assert not (url, maker, db, db_session, owner, async_db)
"""


def test_no_output_has_the_password(start: Start, role: str, env: dict[str, str], tmp_path: Path) -> None:
    """A failed test with all variables of its frames, logs and the report shows it nowhere; nor do commands."""
    database = start().checkout()
    password = str(database.url.password)
    database.release(wait=True)
    place = tmp_path / "one"
    with (place / "pyproject.toml").open("a") as file:
        file.write(f'sql.files = ["schema.sql"]\nrole = "{role}"\nexport_env = ["DATABASE_URL"]\n')
        file.write(f'[tool.elefast.roles.{role}]\ngrants = "write"\n')
    (place / "test_it.py").write_text(FAILING)
    shown = ""
    for words in (
        ("pytest", "-p", "no:cacheprovider", "-vvl", "--tb=long", "--log-level=DEBUG", "--elefast-report"),
        ("elefast.cli", "config", "--origin"),
        ("elefast.cli", "status"),
        ("elefast.cli", "check", "--json"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=place, env=env, capture_output=True, text=True, check=False, timeout=100
        )
        shown += done.stdout + done.stderr
    assert "1 failed" in shown
    assert role in shown
    assert password not in shown


# -- dumps with owners --------------------------------------------------------------------------------------

DUMPED = """
create schema shop authorization @role@_owner;
grant usage on schema shop to @role@;
set role @role@_owner;
create table shop.note (tenant int not null, body text);
alter table shop.note enable row level security;
alter table shop.note force row level security;
create policy tenant_only on shop.note to @role@ using (tenant = nullif(current_setting('app.tenant', true), '')::int);
grant select, insert on shop.note to @role@;
alter default privileges in schema shop grant select on tables to @role@;
reset role;
insert into shop.note values (1, 'one'), (2, 'two');
"""


@pytest.mark.parametrize("provider", ["url", "local"])
def test_a_dump_with_owners_and_grants_loads(start: Start, role: str, tmp_path: Path, provider: str) -> None:
    """pg_dump writes ALTER ... OWNER TO and GRANT, which need the roles; on foreign and on own servers."""
    declared: dict[str, dict[str, str]] = {role: {}, f"{role}_owner": {}}
    source = start(DUMPED, roles=declared).checkout("the original")
    url = source.sync.server.url.set(drivername="postgresql", database=source.name)
    for program in pg_dumps():
        command = [program, url.render_as_string(hide_password=False)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            break
    else:
        pytest.skip("needs a pg_dump")
    source.release(wait=True)
    assert f"OWNER TO {role}_owner" in done.stdout
    more = {} if provider == "url" else {"provider": "local", "local": {"reuse": False}}
    stack = start(done.stdout, project="loaded", roles=declared, **more)
    database = stack.checkout("a test")
    with database.sync.as_role(role, {"app.tenant": 1}) as tenant, tenant.session() as session:
        assert session.scalars(text("select body from shop.note")).all() == ["one"]
    with database.sync.as_role(f"{role}_owner") as owner, owner.session() as session:
        assert session.scalars(text("select body from shop.note")).all() == []
    assert database.release(wait=True) == []

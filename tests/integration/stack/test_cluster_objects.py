"""Roles and tablespaces that migrations make: gone before the project's next build, and nobody else's touched."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from elefast.databases.manager import DatabaseManager
from elefast.errors import MigrationError
from elefast.migrators import Function, Plan, Sql
from elefast.postgres import cluster_objects
from elefast.postgres.connections.connectors import connector_to, connectors_to
from elefast.templates.options import TemplateOptions

Make = Callable[..., DatabaseManager]


@pytest.fixture
def role(server: psycopg.Connection) -> Iterator[str]:
    """A name that no role has; whatever has it at the end goes."""
    name = f"role_{uuid.uuid4().hex[:12]}"
    yield name
    server.execute(f'DROP ROLE IF EXISTS "{name}"'.encode())


@pytest.fixture
def server(server_url: str) -> Iterator[psycopg.Connection]:
    """A connection of its own to the server."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


@pytest.fixture
def make(server_url: str, tmp_path: Path, role: str) -> Iterator[Make]:
    """Makes what a process has for a project with one SQL file or one function; all is dropped at the end."""
    url = make_url(server_url)
    made: list[DatabaseManager] = []

    def make(text: str, *, project: str = "one", owned: bool = True) -> DatabaseManager:
        place = tmp_path / project
        place.mkdir(exist_ok=True)
        is_sql = not text.startswith("def ")
        (place / ("schema.sql" if is_sql else "creating.py")).write_text(f"{text}\n")
        plan = Plan(root=place, migrator=Sql(("schema.sql",)) if is_sql else Function("creating:create"))
        manager = DatabaseManager(
            url,
            connectors_to(url),
            connector_to=partial(connector_to, url),
            recipe=plan,
            options=TemplateOptions(project=f"{project} {tmp_path}"),
            owned=owned,
        )
        made.append(manager)
        return manager

    yield make
    for manager in made:
        manager.close()
    for project in ("one", "two"):
        manager = make("SELECT 1", project=project)
        manager.ensure_ready()
        assert manager.templates
        manager.templates.drop_all()
        manager.close()


def oid_of(server: psycopg.Connection, role: str) -> int | None:
    """What PostgreSQL knows the role by."""
    row = server.execute("SELECT oid::bigint FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    return None if row is None else int(row[0])


def name_of(manager: DatabaseManager) -> str:
    """The template, built if there is none that fits."""
    made = manager.template()
    assert made
    return made.name


def exists(server: psycopg.Connection, database: str) -> bool:
    """Whether there is such a database."""
    return server.execute("SELECT FROM pg_database WHERE datname = %s", [database]).fetchone() is not None


FORMS = {
    "sql": 'CREATE ROLE "{role}"; CREATE TABLE item (id int{more}); GRANT SELECT ON item TO "{role}";',
    "no grant": 'CREATE USER "{role}"; CREATE TABLE item (id int{more});',
    "in a transaction": 'BEGIN; CREATE ROLE "{role}" LOGIN; COMMIT; CREATE TABLE item (id int{more});',
    "sqlalchemy": """\
def create(connection):
    connection.exec_driver_sql('CREATE ROLE "{role}"')
    connection.exec_driver_sql('CREATE TABLE item (id int{more})')
    connection.exec_driver_sql('GRANT SELECT ON item TO "{role}"')
""",
}


@pytest.mark.parametrize("form", FORMS)
def test_the_next_build_makes_it_again(form: str, make: Make, server: psycopg.Connection, role: str) -> None:
    """A changed migration finds no role of the build before, and a template that was built with it is gone."""
    one = make(FORMS[form].format(role=role, more=""))
    first, before = name_of(one), oid_of(server, role)
    assert before is not None
    one.close()

    second = name_of(make(FORMS[form].format(role=role, more=", name text")))

    assert oid_of(server, role) not in (None, before)
    assert exists(server, second)
    assert not exists(server, first)


def test_a_failed_build_leaves_no_role(make: Make, server: psycopg.Connection, role: str) -> None:
    """What it made in the cluster goes with it; the error is that of the migration, also for who asks later."""
    text = f'CREATE ROLE "{role}"; CREATE TABLE item (id int); GRANT SELECT ON item TO "{role}"; SELECT nonsense;'
    manager = make(text)
    with pytest.raises(MigrationError, match='column "nonsense" does not exist'):
        manager.template()
    assert oid_of(server, role) is None


def test_a_role_of_somebody_else_is_never_dropped(make: Make, server: psycopg.Connection, role: str) -> None:
    """It has no mark; the error says what is in the way, and how it goes."""
    server.execute(f'CREATE ROLE "{role}"'.encode())
    before = oid_of(server, role)
    with pytest.raises(MigrationError) as caught:
        make(FORMS["sql"].format(role=role, more="")).template()
    assert caught.value.code == "cluster-object-exists"
    assert f'DROP ROLE "{role}";' in str(caught.value)
    assert oid_of(server, role) == before


def test_a_role_that_a_test_made_anew_is_not_dropped(make: Make, server: psycopg.Connection, role: str) -> None:
    """The mark went with the role that the build had made."""
    one = make(FORMS["no grant"].format(role=role, more=""))
    name_of(one)
    one.close()
    server.execute(f'DROP ROLE "{role}"'.encode())
    server.execute(f'CREATE ROLE "{role}"'.encode())
    before = oid_of(server, role)
    name_of(make("CREATE TABLE other (id int)"))
    assert oid_of(server, role) == before


def test_another_project_keeps_its_role(make: Make, server: psycopg.Connection, role: str) -> None:
    """Its template needs it, whether somebody uses that now or not."""
    one = make(FORMS["no grant"].format(role=role, more=""), project="one")
    theirs, before = name_of(one), oid_of(server, role)
    one.close()
    name_of(make("CREATE TABLE other (id int)", project="two"))
    assert oid_of(server, role) == before
    assert exists(server, theirs)


def test_a_template_in_use_keeps_its_role(make: Make, server: psycopg.Connection, role: str) -> None:
    """Another run of the project goes on; the build that is in its way says so instead of breaking it."""
    one = make(FORMS["no grant"].format(role=role, more=""))
    first, before = name_of(one), oid_of(server, role)
    with pytest.raises(MigrationError) as caught:
        make(FORMS["no grant"].format(role=role, more=", name text")).template()
    assert caught.value.code == "cluster-object-exists"
    assert oid_of(server, role) == before
    assert exists(server, first)


def test_a_role_that_something_depends_on_stays(make: Make, server: psycopg.Connection, role: str) -> None:
    """A database that is not elefast's belongs to it, or a role that is not elefast's is a member."""
    one = make(FORMS["no grant"].format(role=role, more=""))
    name_of(one)
    one.close()
    server.execute(f'CREATE DATABASE "{role}" OWNER "{role}"'.encode())
    server.execute(f'CREATE ROLE "{role}_member" IN ROLE "{role}"'.encode())
    try:
        name_of(make("CREATE TABLE other (id int)"))
        assert oid_of(server, role) is not None
        server.execute(f'DROP DATABASE "{role}"'.encode())
        name_of(make("CREATE TABLE another (id int)"))
        assert oid_of(server, role) is not None
    finally:
        server.execute(f'DROP DATABASE IF EXISTS "{role}"'.encode())
        server.execute(f'DROP ROLE "{role}_member"'.encode())
    name_of(make("CREATE TABLE yet_another (id int)"))
    assert oid_of(server, role) is None


def test_on_a_server_that_is_given_nothing_is_marked(make: Make, server: psycopg.Connection, role: str) -> None:
    """Its roles are not elefast's to touch; the next build says what to do."""
    one = make(FORMS["sql"].format(role=role, more=""), owned=False)
    first = name_of(one)
    one.close()
    assert server.execute("SELECT shobj_description(%s, 'pg_authid')", [oid_of(server, role)]).fetchone() == (None,)
    with pytest.raises(MigrationError) as caught:
        make(FORMS["sql"].format(role=role, more=", name text"), owned=False).template()
    assert caught.value.code == "cluster-object-exists"
    assert f"an earlier build of this project made it, for template {first}." in str(caught.value)
    assert oid_of(server, role) is not None


def test_what_a_migration_makes_only_if_it_is_not_there(make: Make, server: psycopg.Connection, role: str) -> None:
    """A role made in a DO block is marked like others; one that was there before the block is not."""
    block = (
        f'DO $$ BEGIN CREATE ROLE "{role}" NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; '
        "CREATE TABLE item (id int{more});"
    )
    one = make(block.format(more=""))
    name_of(one)
    one.close()
    two = make(block.format(more=", name text").replace("NOLOGIN", "LOGIN"))
    name_of(two)
    assert server.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [role]).fetchone() == (True,)
    two.close()

    name_of(make("SELECT 1"))
    assert oid_of(server, role) is None
    server.execute(f'CREATE ROLE "{role}"'.encode())
    name_of(make(block.format(more=", price int")))
    assert server.execute("SELECT shobj_description(%s, 'pg_authid')", [oid_of(server, role)]).fetchone() == (None,)


def test_statements_that_may_make_something() -> None:
    """In any case and with any space, and nothing else."""
    for statement in ("create role x", "CREATE\n  USER x", "DO $$ begin Create Group x; end $$", "CREATE TABLESPACE x"):
        assert cluster_objects.CREATE_STATEMENT.search(statement)
    for statement in ("CREATE TABLE role (id int)", "ALTER ROLE x", "recreate role x"):
        assert not cluster_objects.CREATE_STATEMENT.search(statement)


def test_the_object_that_is_in_the_way() -> None:
    """Is read from what PostgreSQL says."""
    assert cluster_objects.existing_object('role "a""b" already exists') == ("role", 'a"b')
    assert cluster_objects.existing_object('type "a" already exists') is None

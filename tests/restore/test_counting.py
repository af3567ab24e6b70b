"""A database is reset only if PostgreSQL counted the writes of each session that it had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from elefast.urls import dsn
from tests.restore.conftest import SCHEMA, Bench, opened

OFF = "-c track_counts=off"
DIRT = "UPDATE country SET name = 'dirty'; CREATE TABLE extra (n int); INSERT INTO person (name) VALUES ('Ada')"

IN_THE_SCHEMA = {
    "database": "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET track_counts = off', current_database()); END$$;",
    "role-in-database": "DO $$BEGIN EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET track_counts = off', "
    "current_database()); END$$;",
    "set-clause": "CREATE FUNCTION quiet() RETURNS void LANGUAGE sql SET track_counts = off "
    "AS 'UPDATE country SET name = ''dirty''';",
    "plpgsql": "CREATE FUNCTION quiet() RETURNS void LANGUAGE plpgsql AS $$BEGIN "
    "SET track_counts = off; UPDATE country SET name = 'dirty'; SET track_counts = on; END$$;",
    "sql-body": "CREATE FUNCTION quiet() RETURNS text LANGUAGE sql "
    "BEGIN ATOMIC SELECT set_config('track_counts', 'off', false); UPDATE country SET name = 'dirty'; SELECT 'x'; END;",
}

IN_THE_CONFIGURATION = {
    "connect-args": f'engine.connect_args = {{ options = "{OFF}" }}',
    "hyphen": 'engine.connect_args = { options = "--track-counts=off" }',
    "async-connect-args": 'engine.async_connect_args = { server_settings = { track_counts = "off" } }\n'
    'engine.async_driver = "asyncpg"',
}


@pytest.fixture(autouse=True)
def admin(server_url: str) -> Iterator[psycopg.Connection]:
    """A superuser's connection; what the tests change for the whole server is undone."""
    with psycopg.connect(dsn(make_url(server_url)), autocommit=True) as connection:
        if connection.info.server_version < 150000:
            pytest.skip("PostgreSQL 14 does not tell what was written to, see docs/concepts/pool.md")
        yield connection
        connection.execute("ALTER SYSTEM RESET track_counts")
        connection.execute("ALTER ROLE ALL RESET track_counts")
        connection.execute("ALTER ROLE CURRENT_USER RESET track_counts")
        _reload(connection)


def write(connection: psycopg.Connection) -> None:
    """Write over the connection of the test."""
    connection.execute(DIRT.encode())


def write_anew(connection: psycopg.Connection, **options: str) -> None:
    """Write over another connection, which has the settings of its role and database as they are now."""
    with psycopg.connect(connection.info.dsn, password=connection.info.password, **options) as other:  # type: ignore[arg-type]
        other.execute(DIRT.encode())


def quiet(connection: psycopg.Connection) -> None:
    """Write by the function of the schema."""
    connection.execute("SELECT quiet()")


@pytest.mark.parametrize("name", IN_THE_SCHEMA)
def test_switched_off_in_the_schema(tmp_path: Path, server_url: str, name: str) -> None:
    """A setting that copies of the template inherit, or a function that switches counting off while it writes."""
    work = write if "database" in name else quiet
    with opened(tmp_path, server_url, schema=SCHEMA + IN_THE_SCHEMA[name]) as bench:
        assert not bench.use(work)
        assert not bench.use(work)


@pytest.mark.parametrize("name", IN_THE_CONFIGURATION)
def test_switched_off_in_the_configuration(tmp_path: Path, server_url: str, name: str) -> None:
    """The application's engine connects with it."""
    with opened(tmp_path, server_url, keys=IN_THE_CONFIGURATION[name]) as bench:
        for _ in range(2):
            assert not bench.use(lambda connection: write_anew(connection, options=OFF))


def test_switched_off_in_the_url(tmp_path: Path, server_url: str) -> None:
    """The URL of the server has options for each session."""
    url = make_url(server_url).update_query_dict({"options": OFF}).render_as_string(hide_password=False)
    with opened(tmp_path, url) as bench:
        assert not bench.use(write)
        assert not bench.use(write)


def test_switched_off_in_the_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`PGOPTIONS` is in force for each session of the process, and of those that it starts."""

    def work(connection: psycopg.Connection) -> None:
        monkeypatch.setenv("PGOPTIONS", OFF)
        write_anew(connection)

    assert not bench.use(work)
    monkeypatch.delenv("PGOPTIONS")
    bench.use(lambda connection: None)  # made while it was in force, perhaps
    assert bench.use(lambda connection: None)


def test_switched_off_in_the_server(tmp_path: Path, server_url: str, admin: psycopg.Connection) -> None:
    """The setting of the server, as `tuning.settings` and postgresql.conf have it."""
    admin.execute("ALTER SYSTEM SET track_counts = off")
    _reload(admin)
    with opened(tmp_path, server_url) as bench:
        assert not bench.use(write)
        assert not bench.use(write)


@pytest.mark.parametrize("role", ["ALL", "CURRENT_USER"])
def test_switched_off_for_a_role(bench: Bench, admin: psycopg.Connection, role: str) -> None:
    """`ALTER ROLE ... SET` is in force for later sessions, also of the test that does it."""

    def work(connection: psycopg.Connection) -> None:
        admin.execute(f"ALTER ROLE {role} SET track_counts = off".encode())
        write_anew(connection)

    assert not bench.use(work)
    assert not bench.use(write_anew)
    admin.execute(f"ALTER ROLE {role} RESET track_counts".encode())
    bench.use(lambda connection: None)  # noted while it was in force
    assert bench.use(lambda connection: None)


def test_switched_off_for_a_while(bench: Bench, admin: psycopg.Connection) -> None:
    """The server was told to count no more, and then to count again, before the test ended."""

    def work(connection: psycopg.Connection) -> None:
        admin.execute("ALTER SYSTEM SET track_counts = off")
        _reload(admin)
        write_anew(connection)
        admin.execute("ALTER SYSTEM RESET track_counts")
        _reload(admin)

    assert not bench.use(work)
    bench.use(lambda connection: None)  # made before the server was told to count again, perhaps
    assert bench.use(lambda connection: None)


def test_an_ordinary_role_may_switch_it_off(bench: Bench, admin: psycopg.Connection) -> None:
    """`GRANT SET ON PARAMETER` lets a role do what is otherwise for superusers, which no setting shows."""
    with _role(admin, "GRANT SET ON PARAMETER track_counts TO quiet"):

        def work(connection: psycopg.Connection) -> None:
            connection.execute("GRANT UPDATE ON country TO quiet")

        assert not bench.use(work)  # a right is written to a catalog, and counted
        assert not bench.use(lambda connection: None)
    bench.use(lambda connection: None)
    assert bench.use(lambda connection: None)


def test_an_extension_that_overwrites_rows(tmp_path: Path, server_url: str, admin: psycopg.Connection) -> None:
    """`pg_surgery` changes rows in place and counts nothing."""
    if not admin.execute("SELECT FROM pg_available_extensions WHERE name = 'pg_surgery'").fetchall():
        pytest.skip("this PostgreSQL has no pg_surgery")

    def work(connection: psycopg.Connection) -> None:
        connection.execute("SELECT heap_force_kill('country'::regclass, ARRAY['(0,1)'::tid])")

    with opened(tmp_path, server_url, schema=SCHEMA + "CREATE EXTENSION pg_surgery;") as bench:
        assert not bench.use(work)
        assert not bench.use(work)


def _reload(connection: psycopg.Connection) -> None:
    """Have the server read its configuration, and wait until this session and new ones have it."""
    before = connection.execute("SELECT pg_conf_load_time()").fetchone()
    connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    while connection.execute("SELECT pg_conf_load_time()").fetchone() == before:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextmanager
def _role(connection: psycopg.Connection, statement: str) -> Iterator[None]:
    connection.execute("CREATE ROLE quiet")
    try:
        connection.execute(statement.encode())
        yield
    finally:
        for undo in ("REVOKE SET ON PARAMETER track_counts FROM quiet", "DROP ROLE quiet"):
            connection.execute(undo.encode())

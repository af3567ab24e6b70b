"""A database is reset only if PostgreSQL counted the writes of each session that it had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from elefast.databases import resetter
from elefast.postgres.urls import dsn
from tests.integration.resets.conftest import SCHEMA, Bench, opened
from tests.integration.resets.test_restore import COMES_BACK, sent

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
    # The pool has databases that were made before the server was told to count again: those that were idle, and one
    # that was made while the test had its own.
    assert any(bench.use(lambda connection: None) for _ in range(4))


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


BY_A_SESSION = {
    "set": "SET track_counts = off; {}; COMMIT; SET track_counts = on",
    "set-local": "SET LOCAL track_counts = off; {}; COMMIT",
    "set-config": "SELECT set_config('track_' || 'counts', 'off', true); {}; COMMIT",
    "do": "DO $$BEGIN PERFORM set_config('track_counts', 'off', true); {}; END$$",
}
UNCOUNTED = {
    "update": "UPDATE country SET name = name",
    "insert": "INSERT INTO country VALUES ('fr', 'France')",
    "delete": "DELETE FROM country WHERE code = 'at'",
    "empty-table": "INSERT INTO person (name) VALUES ('Ada')",
    "table": "CREATE TABLE extra (n int)",
    "comment": "COMMENT ON TABLE person IS 'x'",
    "grant": "GRANT SELECT ON person TO PUBLIC",
    "large-object": "PERFORM lo_from_bytea(0, 'x')",
    "sequence": "PERFORM nextval('used')",
    "rolled-back": "BEGIN INSERT INTO visit DEFAULT VALUES; RAISE division_by_zero; "
    "EXCEPTION WHEN division_by_zero THEN NULL; END",
}


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reset is followed by an audit, as it is where tests take longer than some hundred milliseconds."""
    monkeypatch.setattr(resetter, "AUDITS", float("inf"))


@pytest.mark.parametrize("way", BY_A_SESSION)
def test_an_audit_finds_what_a_session_hides(bench: Bench, audited: None, way: str) -> None:
    """No setting shows it afterwards; but the rows are there."""
    statement = BY_A_SESSION[way].format(UNCOUNTED["update"])
    assert not bench.use(sent(statement))
    (leak,) = bench.stack.service.take_leaks()
    assert (leak.test, leak.what) == ("a test", "left behind")
    assert "track_counts" in leak.text
    # The counts prove nothing from now on.
    assert not bench.use(lambda connection: None)


@pytest.mark.parametrize("what", UNCOUNTED)
def test_an_audit_finds_whatever_was_written(bench: Bench, audited: None, what: str) -> None:
    """Rows that are new or gone, in tables, catalogs and sequences."""
    assert bench.use(lambda connection: None)
    statement = BY_A_SESSION["do"].format(UNCOUNTED[what])
    assert not bench.use(sent(statement))
    assert len(bench.stack.service.take_leaks()) == 1
    bench.use(lambda connection: None)


def test_an_audit_finds_nothing_where_nothing_is(bench: Bench, audited: None) -> None:
    """What was reset is as its template, sequences and all."""
    for name in ("insert", "setval", "nextval", "toast", "partitions", "lock-of-a-row", "nothing"):
        assert bench.use(sent(COMES_BACK[name])), name


def test_audits_take_a_share_of_the_time(bench: Bench) -> None:
    """The first reset is audited; the next one is only when the audit before is long enough ago."""
    assert bench.stack.service
    audits = bench.stack.service._resetter
    assert audits
    ended = audits._audit_ended
    assert ended > 0
    assert audits._audit_cost > 0
    audits._audit_cost = 1e6
    assert bench.use(lambda connection: None)
    assert audits._audit_ended == ended


def test_the_next_run_gets_what_was_audited(
    tmp_path: Path, server_url: str, admin: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dirty database that no audit has reached during the run is dropped at its end."""
    monkeypatch.setattr(resetter, "LAST_AUDITS", 60)
    statement = BY_A_SESSION["do"].format(UNCOUNTED["update"])
    schema = SCHEMA + "-- a template that no other test has"
    oids: list[int] = []

    def work(connection: psycopg.Connection) -> None:
        oids.append(_oid(connection))
        connection.execute(statement.encode())

    def left() -> set[int]:
        return {oid for (oid,) in admin.execute("SELECT oid::int FROM pg_database").fetchall()}

    with opened(tmp_path, server_url, schema=schema) as bench:
        running = bench.stack.service
        assert running
        assert running._resetter
        running._resetter._audit_cost = 1e6
        assert bench.use(work)  # nothing tells
        assert oids[0] in left()
    assert oids[0] not in left()
    with opened(tmp_path, server_url, schema=schema) as bench:  # which looks at what it gets
        running = bench.stack.service
        assert running
        assert running._resetter
        running._resetter._audit_cost = 1e6
        assert bench.use(lambda connection: None)
        ready = running.pool.close()
        assert ready
        assert running._verified(ready) == ready


def _oid(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT oid::int FROM pg_database WHERE datname = current_database()").fetchone()
    assert row
    return int(row[0])

"""A database comes back only if nobody can tell it from a new copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.guarantees.isolation.project.dirt import DIRT, Dirt
from tests.integration.resets.conftest import SCHEMA, Bench, opened

COMES_BACK = {
    "nothing": "",
    "select": "SELECT * FROM country",
    "insert": "INSERT INTO person (name) VALUES ('Ada')",
    "insert-rolled-back": "INSERT INTO person (name) VALUES ('Ada'); ROLLBACK",
    "insert-many": "INSERT INTO person (name) SELECT n::text FROM generate_series(1, 200) n",
    "insert-and-delete": "INSERT INTO person (name) VALUES ('Ada'); DELETE FROM person",
    "update": "INSERT INTO person (name) VALUES ('Ada'); COMMIT; UPDATE person SET name = 'Bo'",
    "savepoint": "SAVEPOINT s; INSERT INTO person (name) VALUES ('Ada'); ROLLBACK TO s; SELECT nextval('moved')",
    "upsert": "INSERT INTO person (name) VALUES ('A'); INSERT INTO person (name) VALUES ('A') "
    "ON CONFLICT (name) DO UPDATE SET name = 'B'",
    "foreign-keys": "INSERT INTO letter (sender, body) VALUES (1, 'x'); "
    "INSERT INTO person (name, boss) VALUES ('A', 1)",
    "toast": "INSERT INTO person (name) VALUES ('A'); "
    "INSERT INTO letter (sender, body) VALUES (1, (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n)"
    "::varchar(2000))",
    "gin": "INSERT INTO person (name) VALUES ('A'); INSERT INTO letter (sender, body, words) "
    "SELECT 1, n, to_tsvector('simple', n || ' x') FROM generate_series(1, 20) n",
    "odd-names": """INSERT INTO "o:dd ""one%"."ta:ble %s" VALUES ('%', '[2020-01-01,2020-02-01)');
        SELECT nextval('"o:dd ""one%"."se:q %s"')""",
    "unlogged": "INSERT INTO visit DEFAULT VALUES",
    "partitions": "INSERT INTO event VALUES ('1999-01-01', 'x'), ('2021-01-01', 'y')",
    "inheritance": "INSERT INTO animal VALUES ('cat'); INSERT INTO dog VALUES ('rex', 3)",
    "row-security": "INSERT INTO secret VALUES ('you')",
    "trigger": "INSERT INTO person (name) VALUES ('A'); DELETE FROM person",
    "nextval": "SELECT nextval('used')",
    "nextval-33-times": "SELECT nextval('ticket') FROM generate_series(1, 33)",
    "nextval-with-cache": "SELECT nextval('batch')",
    "setval": "SELECT setval('moved', 4711), setval('ticket', -3, false), setval('person_id_seq', 9)",
    "lock-of-a-row": "SELECT * FROM country FOR UPDATE",
    "lock-of-a-table": "LOCK TABLE country",
    "advisory-lock": "SELECT pg_advisory_lock(4711)",
    "listen": "LISTEN elefast; COMMIT; NOTIFY elefast",
    "set": "SET work_mem = '1234kB'; SET ROLE pg_monitor",
    "prepared-statement": "PREPARE p AS SELECT 1",
    "copy": "COPY visit (id) FROM PROGRAM 'echo 7'",
    "merged": "WITH new AS (INSERT INTO person (name) VALUES ('A') RETURNING id) "
    "INSERT INTO visit (id) SELECT id FROM new",
}

GOES = {
    "truncate": "TRUNCATE person CASCADE",
    "rule": "INSERT INTO ruled VALUES (1)",
    "trigger-always": "INSERT INTO watched VALUES (1)",
    "large-index": "INSERT INTO person (name) SELECT md5(n::text) FROM generate_series(1, 2000) n",
    "temporary-table": "CREATE TEMPORARY TABLE person (n int)",
    "create-table-rolled-back": "CREATE TABLE extra (n int); ROLLBACK",
    "create-and-drop": "CREATE TABLE extra (n int); INSERT INTO extra VALUES (1); DROP TABLE extra",
    "analyze": "INSERT INTO person (name) VALUES ('A'); ANALYZE person",
    "analyze-nothing": "ANALYZE visit",
    "statistics-begin-anew": "SELECT pg_stat_reset()",
    "statistics-of-one-table": "INSERT INTO visit DEFAULT VALUES; COMMIT; "
    "SELECT pg_stat_reset_single_table_counters('visit'::regclass)",
    "system-catalog": "UPDATE pg_class SET reltuples = 7 WHERE relname = 'person'",
    "drop-sequence": "ALTER SEQUENCE used RENAME TO used_up",
    "function": "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "enum": "ALTER TYPE mood ADD VALUE 'new'",
    "comment": "COMMENT ON TABLE person IS 'x'",
    "materialised-view": "REFRESH MATERIALIZED VIEW countries",
    "reindex": "REINDEX TABLE country",
    "large-object": "SELECT lo_from_bytea(0, 'x')",
    "truncate-and-copy-frozen": "TRUNCATE visit; COPY visit (id) FROM PROGRAM 'echo 7' (FREEZE)",
    "prepared-transaction": "INSERT INTO visit DEFAULT VALUES; PREPARE TRANSACTION 'left'",
    "security-label": "INSERT INTO pg_seclabel VALUES ('person'::regclass, 'pg_class'::regclass, 0, 'x', 'y')",
    "replication-origin": "SELECT pg_replication_origin_create('left'); SELECT pg_replication_origin_drop('left'); "
    "CREATE TABLE extra (n int)",
}

GOES_ALONE = {
    "vacuum-catalog": "VACUUM pg_description",
    "analyze-catalog": "ANALYZE pg_largeobject",
    "vacuum-empty-table": "VACUUM visit",
    "vacuum-all": "VACUUM",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Iterator[Bench]:
    """A bench for all tests of this module; each compares the database that it gets with a new copy anyway."""
    with opened(tmp_path_factory.mktemp("bench"), server_url) as bench:
        yield bench


def sent(statements: str) -> Callable[[psycopg.Connection], None]:
    """Send `statements` in one message, as psql does."""

    def send(connection: psycopg.Connection) -> None:
        connection.execute(statements.encode() or b";")

    return send


@pytest.mark.parametrize("name", COMES_BACK)
def test_what_is_undone(bench: Bench, name: str) -> None:
    """It is reset, and the next test sees what it would see in a new copy, down to where rows come to lie."""
    assert bench.use(sent(COMES_BACK[name]))
    assert bench.use(sent("INSERT INTO person (name) VALUES ('Bo'); SELECT nextval('used')"))
    assert bench.use(sent(""))


@pytest.mark.parametrize("name", GOES)
def test_what_is_not_undone(bench: Bench, name: str) -> None:
    """The database goes, and the next test has another one."""
    assert not bench.use(sent(GOES[name]))
    assert bench.use(sent(""))


@pytest.mark.parametrize("name", GOES_ALONE)
def test_maintenance_is_not_undone(bench: Bench, name: str) -> None:
    """What it writes to catalogs in place is counted nowhere, but that it was done is."""

    def work(connection: psycopg.Connection) -> None:
        connection.autocommit = True
        connection.execute(GOES_ALONE[name].encode())

    assert bench.use(sent(""))
    assert not bench.use(work)


def test_a_foreign_table_was_analysed(tmp_path: Path, server_url: str) -> None:
    """That writes estimates to `pg_class` in place, and has no local rows to count."""
    schema = SCHEMA + (
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE far (line text) SERVER files OPTIONS (filename 'PG_VERSION');"
        "ALTER TABLE far ALTER line SET STATISTICS 0;"
    )
    with opened(tmp_path, server_url, schema=schema) as bench:
        assert bench.use(sent("SELECT count(*) FROM far"))
        assert not bench.use(sent("ANALYZE far"))


def test_a_login_trigger_writes(tmp_path: Path, server_url: str) -> None:
    """It fires for the sessions of tests, and not for the one that resets the database."""
    with psycopg.connect(server_url.replace("+psycopg", "")) as connection:
        if connection.info.server_version < 170000:
            pytest.skip("before PostgreSQL 17 there are no login triggers")
    schema = SCHEMA + (
        "CREATE TABLE login (n int);"
        "CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO login VALUES (1); END';"
        "CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION greet(); ALTER EVENT TRIGGER greet ENABLE ALWAYS;"
    )
    with opened(tmp_path, server_url, schema=schema) as bench:
        for name in ("nothing", "insert", "nextval"):
            assert bench.use(sent(COMES_BACK[name])), name


REPLICATION = {
    "insert": ("INSERT INTO person (name) VALUES ('Ada')", True),
    "table": ("CREATE TABLE extra (n int)", False),
}


@pytest.mark.parametrize("what", REPLICATION)
def test_a_replication_connection_writes(bench: Bench, what: str) -> None:
    """PostgreSQL counts it as no session, but its rows like those of any other."""
    statement, comes_back = REPLICATION[what]

    def work(connection: psycopg.Connection) -> None:
        dsn = f"{connection.info.dsn} password={connection.info.password} replication=database"
        walsender = psycopg.pq.PGconn.connect(dsn.encode())
        assert walsender.status == psycopg.pq.ConnStatus.OK, walsender.error_message
        result = walsender.exec_(statement.encode())
        assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, result.error_message
        walsender.finish()

    assert bench.use(work) is comes_back
    bench.use(sent(""))


@pytest.mark.parametrize("dirt", [dirt for dirt in DIRT if dirt.autocommit], ids=lambda dirt: dirt.name)
def test_what_takes_no_transaction(bench: Bench, dirt: Dirt) -> None:
    """What PostgreSQL refuses within a transaction is written to catalogs as well."""

    def work(connection: psycopg.Connection) -> None:
        connection.autocommit = True
        for statement in dirt.statements:
            connection.execute(statement.replace("author", "person").encode())

    assert not bench.use(work)
    assert bench.use(sent(""))

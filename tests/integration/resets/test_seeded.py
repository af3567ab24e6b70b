"""Tables that have rows in the template come back with the same rows, in the same places."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from elefast.postgres import seeded_tables
from tests.integration.resets.conftest import Bench, opened
from tests.integration.resets.test_restore import sent
from tests.integration.resets.test_retained import run, sql

SCHEMA = r"""
CREATE TYPE mood AS ENUM ('fine', 'tired');
CREATE DOMAIN short AS text CHECK (length(value) < 9);
CREATE TABLE kind (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text UNIQUE,
    dropped int,
    "od%d na:me" short DEFAULT 'x',
    how mood, many int[], at timestamptz, doc jsonb, bytes bytea, much numeric, span tsrange, ip inet,
    size int GENERATED ALWAYS AS (length(name)) STORED,
    parent int REFERENCES kind
);
ALTER TABLE kind DROP COLUMN dropped;
INSERT INTO kind (name, "od%d na:me", how, many, at, doc, bytes, much, span, ip, parent)
    SELECT 'kind ' || n, E'a\t\\', 'tired', ARRAY[n, NULL], '2020-02-02 02:02:02.123456+02', '{"a": [1]}',
           '\xdeadbeef', 1.10, '[2020-01-01,2020-02-01)', '10.0.0.1/8', NULL
    FROM generate_series(1, 40) n;
CREATE INDEX ON kind USING gin (doc);
CREATE TABLE item (id serial PRIMARY KEY, kind int REFERENCES kind ON DELETE CASCADE);
CREATE TABLE large (id int PRIMARY KEY, name text);
INSERT INTO large SELECT n, 'row ' || n FROM generate_series(1, 3000) n;
CREATE TABLE long (id int PRIMARY KEY, body text);
ALTER TABLE long ALTER body SET STORAGE EXTERNAL;
INSERT INTO long VALUES (1, repeat('x', 9000));
CREATE TABLE holes (id int PRIMARY KEY, name text);
INSERT INTO holes SELECT n, 'x' FROM generate_series(1, 20) n;
UPDATE holes SET name = 'y' WHERE id < 10;
DELETE FROM holes WHERE id = 15;
CREATE TABLE part (region text, name text) PARTITION BY LIST (region);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
INSERT INTO part VALUES ('a', 'one');
CREATE TABLE guarded (owner text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
INSERT INTO guarded VALUES ('me');
CREATE TABLE log (n int);
CREATE TABLE counted (n int);
INSERT INTO counted VALUES (1);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (1); RETURN NULL; END';
CREATE TRIGGER noted AFTER INSERT OR DELETE ON counted FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TABLE watched (n int);
INSERT INTO watched VALUES (1);
CREATE TRIGGER always AFTER DELETE ON watched FOR EACH STATEMENT EXECUTE FUNCTION note();
ALTER TABLE watched ENABLE ALWAYS TRIGGER always;
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Iterator[Bench]:
    """A bench for all tests of this module, on which a reset is never too slow."""
    with opened(tmp_path_factory.mktemp("seeded"), server_url, schema=SCHEMA) as bench:
        bench.stack.service.manager.clones.add(60)
        for _ in range(40):
            bench.stack.service.manager.clones.add(60)
        yield bench


COMES_BACK = {
    "insert": "INSERT INTO kind (name) VALUES ('new')",
    "update": "UPDATE kind SET name = upper(name)",
    "update of one": "UPDATE kind SET much = 2 WHERE id = 7",
    "delete": "DELETE FROM kind WHERE id > 5",
    "delete all": "DELETE FROM kind",
    "rolled back": "UPDATE kind SET much = 3; ROLLBACK",
    "references": "INSERT INTO item (kind) VALUES (1), (2); DELETE FROM kind WHERE id = 1; "
    "INSERT INTO kind (name, parent) VALUES ('child', 2)",
    "several": "UPDATE kind SET much = 3; INSERT INTO part VALUES ('a', 'two'); DELETE FROM guarded",
    "partition": "UPDATE part SET name = 'changed'",
    "row security": "INSERT INTO guarded VALUES ('you')",
    "trigger": "INSERT INTO counted VALUES (2); DELETE FROM counted WHERE n = 1",
    "insert into a large table": "INSERT INTO large VALUES (0, 'new')",
    "insert into a large table rolled back": "INSERT INTO large VALUES (-1, 'new'); ROLLBACK",
}

GOES = {
    "update of a large table": "UPDATE large SET name = 'x' WHERE id = 1",
    "long values": "INSERT INTO long VALUES (2, 'x'); UPDATE long SET body = 'y'",
    "other places": "UPDATE holes SET name = 'z'",
    "trigger that always fires": "INSERT INTO watched VALUES (2)",
    "truncate": "TRUNCATE kind CASCADE",
    "analyze": "INSERT INTO kind (name) VALUES ('new'); COMMIT; ANALYZE kind",
}


@pytest.mark.parametrize("name", COMES_BACK)
def test_what_comes_back(bench: Bench, name: str) -> None:
    """After the first time, in which the copy that follows is read."""
    bench.use(sent(COMES_BACK[name]))
    assert bench.use(sent(COMES_BACK[name]))
    assert bench.use(sent(COMES_BACK[name]))  # it compares the database with a new copy first
    assert bench.use(sent(""))


@pytest.mark.parametrize("name", GOES)
def test_what_does_not_come_back(bench: Bench, name: str) -> None:
    """The next test has another database, also the second time."""
    bench.use(sent(GOES[name]))
    assert not bench.use(sent(GOES[name]))
    assert not bench.use(sent(GOES[name]))
    assert bench.use(sent(""))


@pytest.mark.parametrize("name", COMES_BACK)
def test_over_the_session_of_the_test(bench: Bench, name: str) -> None:
    """The same where the reset takes place over the session that the test had."""
    for _ in range(3):
        run(bench, sql(COMES_BACK[name]))
    before = len(bench.stack.report().restore)
    run(bench, sql(COMES_BACK[name]))
    assert len(bench.stack.report().restore) > before
    assert bench.use(sent(""))


def test_where_the_next_row_comes_to_lie(bench: Bench) -> None:
    """The order of rows without ORDER BY is the same after a reset as in a new copy."""
    found: list[object] = []

    def work(connection: psycopg.Connection) -> None:
        query = "INSERT INTO kind (name) VALUES ('new') RETURNING ctid::text, id"
        found.append(connection.execute(query).fetchone())
        found.append(connection.execute("INSERT INTO large VALUES (0, 'x') RETURNING ctid::text").fetchone())

    for _ in range(5):
        run(bench, work)
    assert len(set(found)) == 2


def test_an_audit_reads_refilled_tables(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows are newer than the copy, so it compares what they are."""
    monkeypatch.setattr("elefast.databases.resetter.AUDITS", 1e9)  # always due
    for _ in range(3):
        run(bench, sql(COMES_BACK["update"]))
    assert bench.stack.service.pool.state().size
    before = len(bench.stack.report().restore)
    run(bench, sql(COMES_BACK["update"]))
    assert len(bench.stack.report().restore) > before


def test_a_refill_that_differs_is_found(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The table is not refilled again, and the database is dropped."""
    resetter = bench.stack.service.pool._resetter  # pyright: ignore[reportPrivateUsage]
    assert resetter is not None
    run(bench, sql("INSERT INTO part VALUES ('a', 'two')"))
    run(bench, sql("INSERT INTO part VALUES ('a', 'two')"))
    (tables,) = resetter._seeded.values()  # pyright: ignore[reportPrivateUsage]
    (table,) = (table for table in tables.values() if "part_a" in table.name)
    other = (table.data or b"").replace(b"one", b"two")
    tables[table.oid] = table._replace(data=other)
    resetter._compared.clear()  # pyright: ignore[reportPrivateUsage]
    before = len(bench.stack.report().restore)
    with caplog.at_level(logging.DEBUG, "elefast"):
        run(bench, sql("INSERT INTO part VALUES ('a', 'two')"))
    assert len(bench.stack.report().restore) == before
    assert "differs from the template" in caplog.text
    assert tables[table.oid].data is None
    tables[table.oid] = table


def test_a_table_that_cannot_be_read_is_not_refilled(
    tmp_path: Path, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new copy is well, so the next test gets it; databases whose test writes to the table are dropped."""

    def fail(*_: object) -> None:
        raise psycopg.errors.IoError("could not read block 7")

    monkeypatch.setattr(seeded_tables, "capture", fail)  # no statement damages a file of the server
    with opened(tmp_path, server_url, schema=SCHEMA) as bench:
        for _ in range(3):
            assert not bench.use(sent(COMES_BACK["update"]))
        assert bench.use(sent("INSERT INTO log VALUES (1)"))


def test_a_reset_that_takes_longer_than_a_copy_is_not_made(tmp_path: Path, server_url: str) -> None:
    """What is cheaper on the server at hand is measured, not fixed."""
    with opened(tmp_path, server_url, schema=SCHEMA) as bench:
        for _ in range(1000):
            bench.stack.service.manager.clones.add(0.0001)
            bench.stack.service.manager.drops.add(0.0001)
        assert not bench.use(sent("INSERT INTO log SELECT generate_series(1, 3000)"))
        for _ in range(9000):
            bench.stack.service.manager.clones.add(10)
        assert bench.use(sent("INSERT INTO log SELECT generate_series(1, 3000)"))


def test_the_next_run_finds_refilled_databases(tmp_path: Path, server_url: str) -> None:
    """A database whose tables were refilled may be a spare for the next run, which finds it as the template is."""
    for _ in range(2):
        with opened(tmp_path, server_url, schema=SCHEMA) as bench:
            for _ in range(40):
                bench.stack.service.manager.clones.add(60)
            for _ in range(3):
                run(bench, sql(COMES_BACK["update"]))
            lent = bench.stack.checkout()
            with lent.engine.connect() as connection:
                assert connection.execute(text("SELECT count(*) FROM kind WHERE name = upper(name)")).scalar() == 0
            lent.release()

"""Everything that a test may do to a database and to the server, as statements that any driver sends."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DIRT", "SHARED", "Dirt"]


@dataclass(frozen=True)
class Dirt:
    """What one test does.

    Args:
        name: In the test's id.
        statements: What it sends, and commits at the end; ``{kind}`` is where sync and async must not meet.
        autocommit: PostgreSQL refuses it within a transaction.
        open: The connection stays open, and so does its transaction.
        fails: What PostgreSQL says to the commit.
        leaks: What the warning must say of it; empty where there must be none.
    """

    name: str
    statements: tuple[str, ...]
    autocommit: bool = False
    open: bool = False
    fails: str = ""
    leaks: str = ""


def _alone(name: str, *statements: str) -> Dirt:
    return Dirt(name, statements, autocommit=True)


def _here(statement: str) -> str:
    """`statement` about the current database, whose name it cannot say by itself."""
    before, after = statement.split("{}")
    return f"DO $$BEGIN EXECUTE '{before}' || quote_ident(current_database()) || '{after}'; END$$"


def _open(name: str, *statements: str) -> Dirt:
    return Dirt(name, statements, open=True, leaks="left a connection open")


DIRT = (
    Dirt("nothing", ("SELECT 1",)),
    # rows
    Dirt("insert", ("INSERT INTO author (name) VALUES ('Iain')",)),
    Dirt("update", ("UPDATE author SET name = upper(name)",)),
    Dirt("delete", ("DELETE FROM book",)),
    Dirt("truncate", ("TRUNCATE author, book RESTART IDENTITY",)),
    Dirt("unlogged", ("INSERT INTO visit VALUES (now())",)),
    Dirt("large-object", ("SELECT lo_from_bytea(0, 'x')",)),
    Dirt("materialised-view", ("INSERT INTO author (name) VALUES ('x')", "REFRESH MATERIALIZED VIEW authors")),
    # sequences
    Dirt("nextval-once", ("SELECT nextval('ticket')",)),
    Dirt("nextval-33-times", ("SELECT nextval('ticket') FROM generate_series(1, 33)",)),
    Dirt("setval", ("SELECT setval('ticket', 4711)", "SELECT setval('author_id_seq', 4711, false)")),
    Dirt("alter-sequence", ("ALTER SEQUENCE ticket INCREMENT BY 10 RESTART WITH 5",)),
    # definitions
    Dirt("create-table", ("CREATE TABLE extra (n int)", "INSERT INTO extra VALUES (1)")),
    Dirt("alter-table", ("ALTER TABLE author ADD COLUMN born int DEFAULT 1929, ALTER COLUMN name DROP NOT NULL",)),
    Dirt("rename-table", ("ALTER TABLE author RENAME TO writer",)),
    Dirt("drop-table", ("DROP TABLE author CASCADE",)),
    Dirt("index", ("CREATE INDEX ON author (name)",)),
    _alone("index-concurrently", "CREATE INDEX CONCURRENTLY ON author (name)"),
    Dirt(
        "schema",
        (
            "CREATE SCHEMA other",
            "CREATE VIEW other.v AS SELECT 1 AS one",
            "DROP SCHEMA other CASCADE",
            "CREATE SCHEMA third",
        ),
    ),
    Dirt("function", ("CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 3 * n'",)),
    Dirt(
        "trigger",
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER t BEFORE INSERT ON author FOR EACH ROW EXECUTE FUNCTION f()",
        ),
    ),
    Dirt(
        "event-trigger",
        (
            "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
            "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION e()",
        ),
    ),
    Dirt("rule", ("CREATE RULE r AS ON DELETE TO author DO INSTEAD NOTHING",)),
    Dirt("policy", ("ALTER TABLE author ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON author USING (false)")),
    Dirt("type", ("CREATE TYPE pair AS (a int, b int)", "CREATE DOMAIN positive AS int CHECK (value > 0)")),
    _alone("enum-value", "ALTER TYPE mood ADD VALUE 'happy'"),
    Dirt("extension", ("CREATE EXTENSION hstore",)),
    Dirt("comment", ("COMMENT ON TABLE author IS 'x'",)),
    Dirt("grant", ("GRANT SELECT ON author TO PUBLIC", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")),
    Dirt("publication", ("CREATE PUBLICATION p FOR ALL TABLES",)),
    _alone("vacuum-full", "VACUUM FULL author"),
    # the database itself
    Dirt("database-setting", (_here("ALTER DATABASE {} SET work_mem = ''1234kB''"),)),
    Dirt("role-in-database-setting", (_here("ALTER ROLE ALL IN DATABASE {} SET work_mem = ''1234kB''"),)),
    Dirt("database-grant", (_here("REVOKE CONNECT ON DATABASE {} FROM PUBLIC"),)),
    Dirt("database-comment", (_here("COMMENT ON DATABASE {} IS ''x''"),)),
    # the session
    Dirt("set", ("SET work_mem = '1234kB'", "SET search_path = pg_catalog", "SET ROLE pg_monitor")),
    Dirt("temporary-table", ("CREATE TEMPORARY TABLE author (n int)",)),
    Dirt("prepared-statement", ("PREPARE p AS SELECT 1",)),
    Dirt("listen", ("LISTEN elefast", "NOTIFY elefast")),
    Dirt("deferred-constraint", ("INSERT INTO book (author_id, title) VALUES (4711, 'x')",), fails="foreign key"),
    Dirt("held-cursor", ("DECLARE c CURSOR WITH HOLD FOR SELECT 1",)),
    # what stays open
    _open("idle-in-transaction", "INSERT INTO author (name) VALUES ('x')", "LOCK TABLE author"),
    _open("advisory-lock", "SELECT pg_advisory_lock(4711)"),
    _open("listening", "LISTEN elefast"),
    # what outlives its session
    Dirt(
        "prepared-transaction",
        ("INSERT INTO author (name) VALUES ('x')", "PREPARE TRANSACTION 'dirt {kind}'"),
        leaks='left behind: prepared transaction "dirt {kind}"',
    ),
    Dirt("logical-slot", ("SELECT pg_create_logical_replication_slot('dirt_{kind}', 'test_decoding')",)),
    Dirt(
        "subscription",
        (
            "CREATE SUBSCRIPTION dirt CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p "
            "WITH (connect = false, slot_name = NONE)",
        ),
        leaks='left behind: subscription "dirt"',
    ),
)
"""What a database of its own keeps from the next test."""

_SHARES = "changed what all databases of the server share: "

SHARED = (
    Dirt("role", ("CREATE ROLE dirt_role",), leaks=_SHARES + 'role "dirt_role" is new'),
    Dirt(
        "role-setting",
        ("ALTER ROLE dirt_other SET work_mem = '1234kB'",),
        leaks=_SHARES + 'role "dirt_other" is other than before',
    ),
    Dirt("membership", ("GRANT dirt_group TO dirt_member",), leaks=_SHARES + 'role "dirt_member" is other than before'),
    Dirt("role-dropped", ("DROP ROLE dirt_old",), leaks=_SHARES + 'role "dirt_old" is gone'),
    Dirt(
        "tablespace",
        ("SET allow_in_place_tablespaces = on", "CREATE TABLESPACE dirt_space LOCATION ''"),
        autocommit=True,
        leaks=_SHARES + 'tablespace "dirt_space" is new',
    ),
    Dirt(
        "physical-slot",
        ("SELECT pg_create_physical_replication_slot('dirt_slot')",),
        leaks=_SHARES + 'replication slot "dirt_slot" is new',
    ),
    Dirt(
        "alter-system",
        ("ALTER SYSTEM SET work_mem = '1234kB'", "SELECT pg_reload_conf()"),
        autocommit=True,
        leaks=_SHARES + 'setting of the server, ALTER SYSTEM "work_mem" is new',
    ),
    Dirt(
        "role-all-setting",
        ("ALTER ROLE ALL SET geqo_threshold = 20",),
        leaks=_SHARES + "settings of all databases, ALTER ROLE ALL is new",
    ),
    Dirt(
        "database",
        ("CREATE DATABASE dirt_database",),
        autocommit=True,
        leaks=_SHARES + 'database "dirt_database" is new',
    ),
    Dirt("role-undone", ("CREATE ROLE dirt_undone", "DROP ROLE dirt_undone")),
)
"""What PostgreSQL keeps for all databases: nobody can keep it from the next test, so it is named."""

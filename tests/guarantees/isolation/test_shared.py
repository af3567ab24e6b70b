"""What databases share and a test changes is seen by a look at the server, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, make_url

from elefast.postgres import cluster_snapshot
from elefast.postgres.sql import execute, scalar

# The statement, what the look says of it, and how to undo it.
CHANGES = {
    "role": ("CREATE ROLE extra", 'role "extra"', "DROP ROLE extra"),
    "role-setting": ("ALTER ROLE shared SET work_mem = '1MB'", 'role "shared"', "ALTER ROLE shared RESET ALL"),
    "role-comment": (
        "COMMENT ON ROLE shared IS 'x'",
        'comment on a role or tablespace "shared"',
        "COMMENT ON ROLE shared IS NULL",
    ),
    "tablespace-comment": (
        "COMMENT ON TABLESPACE pg_default IS 'x'",
        'comment on a role or tablespace "pg_default"',
        "COMMENT ON TABLESPACE pg_default IS NULL",
    ),
    "replication-origin": (
        "SELECT pg_replication_origin_create('shared')",
        'replication origin "shared"',
        "SELECT pg_replication_origin_drop('shared')",
    ),
    "parameter": (
        "GRANT SET ON PARAMETER work_mem TO shared",
        'rights to set a parameter, GRANT ON PARAMETER "work_mem"',
        "REVOKE SET ON PARAMETER work_mem FROM shared",
    ),
    "database-setting": (
        "ALTER DATABASE template1 SET work_mem = '1MB'",
        'database "template1"',
        "ALTER DATABASE template1 RESET work_mem",
    ),
    "role-in-database": (
        "ALTER ROLE shared IN DATABASE postgres SET work_mem = '1MB'",
        'database "postgres"',
        "ALTER ROLE shared IN DATABASE postgres RESET work_mem",
    ),
    "database-right": (
        "GRANT CREATE ON DATABASE postgres TO shared",
        'database "postgres"',
        "REVOKE CREATE ON DATABASE postgres FROM shared",
    ),
    "security-label": (
        "INSERT INTO pg_shseclabel VALUES ('shared'::regrole, 'pg_authid'::regclass, 'x', 'y')",
        "security label of a shared object",
        "DELETE FROM pg_shseclabel",
    ),
}


@pytest.fixture
def server(server_url: str) -> Iterator[Connection]:
    """A superuser's connection to a server with a role for the tests."""
    engine = create_engine(make_url(server_url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        execute(connection, "SET allow_system_table_mods = on")
        execute(connection, "CREATE ROLE shared")
        yield connection
        execute(connection, "REVOKE ALL ON DATABASE postgres FROM shared")
        execute(connection, "DROP ROLE shared")
    engine.dispose()


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(server: Connection, name: str) -> None:
    """It is the only thing that differs, and does not any more when it is undone."""
    has_parameters = int(scalar(server, "SHOW server_version_num")) >= 150000
    if name == "parameter" and not has_parameters:
        pytest.skip("PostgreSQL 14 has no rights to set parameters")
    statement, thing, undo = CHANGES[name]

    def look() -> dict[str, str]:
        return cluster_snapshot.snapshot(server, system=True, parameters=has_parameters)

    execute(server, "GRANT CONNECT ON DATABASE postgres TO shared")  # so that the rights are no longer the default ones
    before = look()
    execute(server, statement)
    try:
        after = look()
    finally:
        execute(server, undo)
    (changed,) = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed.startswith(thing)
    assert look() == before

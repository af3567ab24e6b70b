"""All that there is in a database, down to where rows lie, so that a reset database can be compared with a copy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

__all__ = ["deep"]

# What nobody can tell from a copy: how old the oldest row may be, and how much room an index takes, which does not
# shrink. Nothing is planned by the figures of an index.
_IN_VAIN = {
    "pg_class": "to_jsonb(x) - '{relfrozenxid,relminmxid}'::text[] - (case when relkind = 'i' "
    "then '{relpages,reltuples}' else '{}' end)::text[]",
}
_CATALOGS = "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' " \
    "AND NOT relisshared AND has_table_privilege(oid, 'SELECT')"  # fmt: skip
_RELATIONS = "SELECT c.oid::bigint, c.oid::regclass::text, relkind::text FROM pg_class c " \
    "WHERE c.oid >= 16384 AND (relkind IN ('r', 'm', 'S') OR relkind = 't' AND (SELECT rolsuper FROM pg_roles " \
    "WHERE rolname = current_user))"  # fmt: skip
_DATABASE = (
    "SELECT to_jsonb(d) - '{oid,datname,datfrozenxid,datminmxid}'::text[], shobj_description(oid, 'pg_database'), "
    "(SELECT jsonb_agg(to_jsonb(s) - 'setdatabase') FROM pg_db_role_setting s WHERE setdatabase = d.oid), "
    "(SELECT count(*) FROM pg_locks WHERE database = d.oid AND locktype = 'advisory'), "
    "(SELECT count(*) FROM pg_prepared_xacts WHERE database = datname), "
    "(SELECT count(*) FROM pg_replication_slots WHERE database = datname), "
    "(SELECT count(*) FROM pg_subscription WHERE subdbid = d.oid), "
    "(SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid AND pid <> pg_backend_pid()) "
    "FROM pg_database d WHERE datname = current_database()"
)


def deep(connection: Connection) -> dict[str, Any]:
    """What there is, by catalog and by relation."""
    found: dict[str, Any] = {"database": str(_ask(connection, _DATABASE))}
    for (catalog,) in _ask(connection, _CATALOGS):
        row = _IN_VAIN.get(catalog, "x")
        if catalog == "pg_class":
            of_each = f"SELECT relname || relnamespace, ctid || ({row})::text FROM pg_class x"
            found |= {f"pg_class {name}": text for name, text in _ask(connection, of_each)}
            continue
        rows = f"SELECT md5(string_agg(ctid || ({row})::text, chr(10) ORDER BY ctid)) FROM {catalog} x"
        found[catalog] = _ask(connection, rows)[0][0]
    for oid, name, kind in _ask(connection, _RELATIONS):
        if kind == "S":
            # How far a sequence with CACHE is logged differs after a reset.
            logged = "CASE seqcache WHEN 1 THEN log_cnt END"
            found[name] = _ask(
                connection, f"SELECT last_value, is_called, {logged} FROM {name}, pg_sequence WHERE seqrelid = {oid}"
            )
        else:
            what = "ctid::text" if kind == "t" else "ctid::text, x::text"
            found[name] = _ask(connection, f"SELECT {what} FROM {name} x ORDER BY ctid")
            found[f"size of {name}"] = _ask(connection, f"SELECT pg_relation_size({oid})")
    return found


def _ask(connection: Connection, query: str) -> list[Any]:
    # A colon or a percent sign in a name is no parameter, and without parameters it is not looked for.
    return [tuple(row) for row in connection.exec_driver_sql(query.replace("%", "%%"))]

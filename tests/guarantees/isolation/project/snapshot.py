"""All that a test can see of its database, in parts, so that two looks can be compared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

__all__ = ["snapshot"]

_OWN = "n.nspname !~ '^(pg_|information_schema)'"

_PARTS = {
    "relations": f"SELECT n.nspname, relname, relkind::text, relpersistence::text, relacl::text, reloptions::text, "
    f"relrowsecurity, obj_description(c.oid, 'pg_class') "
    f"FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE {_OWN}",
    "columns": f"SELECT n.nspname, relname, attname, atttypid::regtype::text, attnotnull, atthasdef "
    f"FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace "
    f"WHERE attnum > 0 AND NOT attisdropped AND {_OWN}",
    "constraints": f"SELECT conname, pg_get_constraintdef(x.oid) FROM pg_constraint x "
    f"JOIN pg_namespace n ON n.oid = connamespace WHERE {_OWN}",
    "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "event triggers": "SELECT evtname FROM pg_event_trigger",
    "rules": f"SELECT n.nspname, tablename, rulename FROM pg_rules JOIN pg_namespace n ON n.nspname = schemaname "
    f"WHERE {_OWN}",
    "policies": "SELECT polname FROM pg_policy",
    "types": f"SELECT n.nspname, typname, (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum "
    f"WHERE enumtypid = t.oid) FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE {_OWN}",
    "functions": f"SELECT n.nspname, proname, prosrc FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace "
    f"WHERE {_OWN}",
    "schemas": "SELECT nspname, nspacl::text FROM pg_namespace n WHERE nspname !~ '^pg_(toast_)?temp'",
    "default rights": "SELECT defaclobjtype::text, defaclacl::text FROM pg_default_acl",
    "extensions": "SELECT extname FROM pg_extension",
    "publications": "SELECT pubname FROM pg_publication",
    "large objects": "SELECT count(*) FROM pg_largeobject_metadata",
    "database": "SELECT datacl::text, datconnlimit, datallowconn, datistemplate, "
    "shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()",
    "settings of the database": "SELECT setrole <> 0, setconfig::text FROM pg_db_role_setting "
    "WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "session": "SELECT name, current_setting(name) FROM unnest(ARRAY['search_path', 'role', 'lock_timeout', "
    "'session_replication_role', 'default_transaction_isolation', 'default_transaction_read_only']) AS name",
    "advisory locks": "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "channels": "SELECT pg_listening_channels()",
    "prepared statements": "SELECT name FROM pg_prepared_statements WHERE name !~ '^(_pg3_|__asyncpg_|pg8000_)'",
    "cursors": "SELECT name FROM pg_cursors WHERE name !~ '^(__asyncpg|$)' AND is_holdable",
    "other sessions": "SELECT application_name, state, query FROM pg_stat_activity WHERE datname = current_database() "
    # one that is idle may be the first connection of the engine that an async test does not use
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'",
    "prepared transactions": "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
    "slots": "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()",
    "subscriptions": "SELECT subname FROM pg_subscription "
    "WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "temporary": "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
}
_TABLES = (
    "SELECT quote_ident(n.nspname) || '.' || quote_ident(relname), relkind::text "
    f"FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm', 'p', 'S') AND {_OWN}"
)


def snapshot(connection: Connection) -> dict[str, list[list[str]]]:
    """What there is, as text."""
    found = {part: _ask(connection, query) for part, query in _PARTS.items()}
    for table, kind in _ask(connection, _TABLES):
        what = "last_value, is_called" if kind == "S" else "x::text"
        found[f"rows of {table}"] = _ask(connection, f"SELECT {what} FROM {table} AS x")
    return found


def _ask(connection: Connection, query: str) -> list[list[str]]:
    rows: list[Any] = list(connection.exec_driver_sql(query))
    return sorted([str(value) for value in row] for row in rows)

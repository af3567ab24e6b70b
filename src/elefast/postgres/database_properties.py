"""Properties of a database that ``CREATE DATABASE ... TEMPLATE`` does not copy, as statements to run on each copy.

PostgreSQL copies neither ``ALTER DATABASE ... SET`` nor ``GRANT ... ON DATABASE`` nor the comment (see the notes on
CREATE DATABASE). Without this module, a migration that sets ``search_path`` on its database would have no effect in
the copies.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from elefast.postgres import keepalives
from elefast.postgres.sql import identifier, literal, rows, scalar

__all__ = ["read_properties", "statements_for"]

# Stands for the name of the database in the statements. They are stored in a comment, which cannot contain NUL. No
# setting contains "\x1a" (SUBSTITUTE).
_HERE = "\x1a"


def read_properties(connection: Connection, name: str) -> list[str]:
    """The properties of database `name`, as statements for `statements_for`."""
    ours = keepalives.SETTINGS.items()  # elefast has set these on the draft, and sets them on each copy
    found = [_setting(*row) for row in rows(connection, _SETTINGS, name=name) if (row[1], row[2]) not in ours]
    grants = rows(connection, _GRANTS, name=name)
    if grants:
        owner = scalar(connection, "select current_user")
        found.append(f"REVOKE ALL ON DATABASE {_HERE} FROM PUBLIC, {identifier(str(owner))}")
        found += [_grant(*row) for row in grants]
    note = scalar(
        connection,
        "select shobj_description(oid, 'pg_database') from pg_database where datname = :name",
        name=name,
    )
    if note:
        found.append(f"COMMENT ON DATABASE {_HERE} IS {literal(str(note))}")
    return found


def statements_for(properties: Sequence[str], name: str) -> list[str]:
    """The statements that give database `name` the properties that `read_properties` has read."""
    return [statement.replace(_HERE, identifier(name)) for statement in properties]


_SETTINGS = """
    select coalesce(r.rolname, ''), split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
    from pg_db_role_setting s
    join pg_database d on d.oid = s.setdatabase and d.datname = :name
    left join pg_roles r on r.oid = s.setrole
    cross join lateral unnest(s.setconfig) as c
"""

_GRANTS = """
    select coalesce(r.rolname, ''), a.privilege_type, a.is_grantable
    from pg_database d cross join lateral aclexplode(d.datacl) as a
    left join pg_roles r on r.oid = a.grantee
    where d.datname = :name
"""


def _setting(role: str, setting: str, value: str) -> str:
    """An ``ALTER ... SET`` by way of ``FROM CURRENT``, which does not quote lists such as search_path as one value."""
    whom = f"ROLE {identifier(role)} IN DATABASE {_HERE}" if role else f"DATABASE {_HERE}"
    parts = ".".join(identifier(part) for part in setting.split("."))
    alter = f"ALTER {whom} SET {parts} FROM CURRENT"
    # A DO block is one transaction, after which the session has its own setting again.
    return f"DO $elefast$ BEGIN PERFORM set_config({literal(setting)}, {literal(value)}, true); {alter}; END $elefast$"


def _grant(role: str, privilege: str, grantable: bool) -> str:
    to = identifier(role) if role else "PUBLIC"
    option = " WITH GRANT OPTION" if grantable else ""
    return f"GRANT {privilege} ON DATABASE {_HERE} TO {to}{option}"

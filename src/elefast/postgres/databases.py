"""Single steps with databases: list, create, clone, seal, rename, comment, drop.

Every statement that destroys something checks the mark and the owner again at that moment.
Functions over a connection in autocommit mode to the maintenance database; nothing here waits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection

from elefast.errors import RefusedError
from elefast.postgres.names import Kind, Name
from elefast.postgres.sql import execute, identifier, literal, prepared_rows, rows

__all__ = [
    "ClientSession",
    "OwnDatabase",
    "allow_connections",
    "check_ownership",
    "client_sessions",
    "clone",
    "comment",
    "create",
    "drop",
    "exists",
    "own_databases",
    "rename",
    "seal",
    "size",
    "terminate",
]


class OwnDatabase(NamedTuple):
    """A database of elefast's own, as the catalog has it."""

    name: Name
    text: str
    """The name as it is in the catalog."""
    oid: int
    """What PostgreSQL knows it by: another one of the same name is not the one that was looked at."""
    sealed: bool
    comment: str
    busy: bool
    """Somebody is connected to it."""
    invalid: bool
    """Somebody began to drop it and was interrupted; PostgreSQL lets nobody use it any more, only drop it."""

    @property
    def record(self) -> dict[str, Any]:
        """The JSON object in its comment; empty where somebody wrote another comment over it."""
        try:
            record = json.loads(self.comment)
        except ValueError:
            return {}
        return cast("dict[str, Any]", record) if isinstance(record, dict) else {}

    @property
    def project(self) -> str:
        """The project that its comment names; empty where it names none."""
        return str(self.record.get("project", ""))


class ClientSession(NamedTuple):
    """A session on a database."""

    pid: int
    application: str
    state: str
    query: str

    def __str__(self) -> str:
        what = f"{self.application or 'a session'} (pid {self.pid}, {self.state or 'active'})"
        return f"{what}, last query: {' '.join(self.query.split())[:200]}" if self.query else what


# Only what belongs to the role that asks: what another role made is never ours to touch.
_ENTRIES = r"""
    select d.datname, d.oid::bigint, d.datistemplate and not d.datallowconn,
           coalesce(shobj_description(d.oid, 'pg_database'), ''),
           exists (select from pg_stat_activity a where a.datid = d.oid), d.datconnlimit = -2
    from pg_database d
    where d.datdba = (select oid from pg_roles where rolname = current_user)
      and d.datname ~ '_[a-z][0-9a-v]{12}_[0-9a-v]{1,8}_[0-9a-v]{8}$'
    order by d.oid
"""


def own_databases(connection: Connection, *kinds: Kind, owner: str = "") -> list[OwnDatabase]:
    """The current role's databases that bear elefast's mark, oldest first; of all kinds where none is given."""
    found: list[OwnDatabase] = []
    for text, oid, sealed, note, busy, invalid in rows(connection, _ENTRIES):
        name = Name.parse(text)
        if name and (not kinds or name.kind in kinds) and (not owner or name.owner == owner):
            found.append(OwnDatabase(name, text, int(oid), bool(sealed), str(note), bool(busy), bool(invalid)))
    return found


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a database `name`."""
    return bool(rows(connection, "select 1 from pg_database where datname = :name", name=name))


def size(connection: Connection, name: str) -> int:
    """Bytes of database `name` on the server's disk."""
    ((found,),) = rows(connection, "select pg_database_size(cast(:name as name))", name=name)
    return int(found)


def create(connection: Connection, name: Name, *, encoding: str, strategy: str = "") -> None:
    """Create an empty database from ``template0``, whose content no one can have changed."""
    options = f" ENCODING {literal(encoding)}" + (f" STRATEGY {strategy}" if strategy else "")
    execute(connection, f"CREATE DATABASE {identifier(str(name))} TEMPLATE template0{options}")


def clone(connection: Connection, name: Name, *, template: str, strategy: str = "") -> None:
    """Create a database as a copy of `template`."""
    option = f" STRATEGY {strategy}" if strategy else ""
    execute(connection, f"CREATE DATABASE {identifier(str(name))} TEMPLATE {identifier(template)}{option}")


def comment(connection: Connection, name: str, text: str) -> None:
    """Set the comment of database `name`.

    Raises:
        RefusedError: It does not bear elefast's mark, or belongs to another role; so do all that change a database.
    """
    check_ownership(connection, name, "changed")
    execute(connection, f"COMMENT ON DATABASE {identifier(name)} IS {literal(text)}")


def rename(connection: Connection, name: str, new: Name) -> None:
    """Rename a database; nobody may be connected to it."""
    check_ownership(connection, name, "renamed")
    execute(connection, f"ALTER DATABASE {identifier(name)} RENAME TO {identifier(str(new))}")


def seal(connection: Connection, name: str) -> None:
    """Close `name` to connections, which would block cloning, and mark it as a template."""
    check_ownership(connection, name, "changed")
    quoted = identifier(name)
    execute(connection, f"ALTER DATABASE {quoted} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true")


def allow_connections(connection: Connection, name: str, allowed: bool) -> None:
    """Open or close database `name` to new connections."""
    check_ownership(connection, name, "changed")
    execute(connection, f"ALTER DATABASE {identifier(name)} WITH ALLOW_CONNECTIONS {str(allowed).lower()}")


def client_sessions(connection: Connection, name: str) -> Sequence[ClientSession]:
    """The client sessions on database `name`.

    Autovacuum's workers have no role, and PostgreSQL sees to them by itself; of other roles' sessions an ordinary
    role is not shown what kind they are.
    """
    found = prepared_rows(
        connection,
        """
        select pid, coalesce(application_name, ''), coalesce(state, ''), coalesce(query, '')
        from pg_stat_activity where datname = $1 and pid <> pg_backend_pid() and usesysid is not null
        """,
        name,
    )
    return [ClientSession(*row) for row in found]


def terminate(connection: Connection, name: str) -> bool:
    """Ask the sessions on database `name` to end; they take some milliseconds to be gone.

    Returns:
        Whether this role may end all of them; the others go on.
    """
    check_ownership(connection, name, "changed")
    found = rows(
        connection,
        """
        select case when me.rolsuper or not r.rolsuper
                     and (pg_has_role(r.oid, 'usage') or pg_has_role('pg_signal_backend', 'usage'))
               then pg_terminate_backend(pid) is not null else false end
        from pg_stat_activity join pg_roles r on r.oid = usesysid join pg_roles me on me.rolname = current_user
        where datname = :name and pid <> pg_backend_pid()
        """,
        name=name,
    )
    return all(asked for (asked,) in found)


def check_ownership(connection: Connection, name: str, what: str = "dropped", oid: int = 0) -> bool:
    """See that `name` is ours to drop or change; say whether it is there.

    Args:
        connection: To another database.
        name: The whole name.
        what: What would be done to it, for the message.
        oid: Of the one that is meant, where somebody has looked at it before; another one counts as not there.

    Raises:
        RefusedError: It does not bear elefast's mark, or belongs to another role.
    """
    if Name.parse(name) is None:
        raise RefusedError(
            f'database "{name}" is not {what}: its name does not bear elefast\'s mark. '
            "elefast drops only what it made; drop it yourself if you mean it.",
            code="foreign-database",
        )
    found = prepared_rows(
        connection,
        """
        select r.rolname, r.rolname = current_user, d.oid::bigint
        from pg_database d join pg_roles r on r.oid = d.datdba where d.datname = $1
        """,
        name,
    )
    if found and not found[0][1]:
        raise RefusedError(
            f'database "{name}" is not {what}: it belongs to role "{found[0][0]}", not to this one. '
            "Connect as that one to drop it.",
            code="foreign-database",
        )
    return bool(found) and oid in (0, found[0][2])


def drop(connection: Connection, name: str, *, force: bool = False, oid: int = 0) -> bool:
    """Drop a database of elefast's own; say whether it was there.

    Args:
        connection: In autocommit mode, not to `name` itself.
        name: The whole name.
        force: End the sessions on it, at the price of 100 ms: PostgreSQL sleeps that long where one is left.
        oid: Of the one that is meant, as of `check_ownership`.

    Raises:
        RefusedError: `name` does not bear elefast's mark, or belongs to another role.
    """
    if not check_ownership(connection, name, oid=oid):
        return False
    parsed = Name.parse(name)
    sealed = "select 1 from pg_database where datname = :name and datistemplate"
    # Not twice: where a drop was interrupted after it, the server ends the session that alters the database again.
    if (
        parsed is not None
        and parsed.kind in (Kind.DRAFT, Kind.TEMPLATE, Kind.VOLATILE)
        and rows(connection, sealed, name=name)
    ):
        execute(connection, f"ALTER DATABASE {identifier(name)} WITH IS_TEMPLATE false")
    option = " WITH (FORCE)" if force else ""
    execute(connection, f"DROP DATABASE IF EXISTS {identifier(name)}{option}")
    return True

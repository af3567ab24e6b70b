"""Databases on a server: list, create, clone, seal, rename, comment and drop them, and see who is connected.

Every function that changes or drops a database first checks that its name bears elefast's mark and that it belongs to
the current role. All functions take a connection in autocommit mode to the maintenance database. None of them waits.
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
    "last_reset",
    "own_databases",
    "reason_against_rename",
    "rename",
    "rename_own_statements",
    "seal",
    "session_counts",
    "size",
    "terminate",
    "uncommitted_changes",
]


class OwnDatabase(NamedTuple):
    """A database that elefast has made, as the catalog ``pg_database`` describes it."""

    name: Name
    """The parts of its name."""
    text: str
    """Its name."""
    oid: int
    """Its oid, which tells it from a later database of the same name."""
    sealed: bool
    """It is a template and closed to connections."""
    comment: str
    """Its comment."""
    busy: bool
    """It has sessions."""
    invalid: bool
    """An interrupted DROP DATABASE has left it unusable. It can only be dropped."""

    @property
    def record(self) -> dict[str, Any]:
        """The JSON object in its comment; empty where a user has replaced the comment."""
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
    """A session of a client on a database, as ``pg_stat_activity`` describes it."""

    pid: int
    """The process id of its backend."""
    application: str
    """Its ``application_name``."""
    state: str
    """Its state, such as ``idle``."""
    query: str
    """Its latest query."""

    def __str__(self) -> str:
        what = f"{self.application or 'a session'} (pid {self.pid}, {self.state or 'active'})"
        return f"{what}, last query: {' '.join(self.query.split())[:200]}" if self.query else what


# Only databases of the current role, because elefast never touches those of another role.
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
    """The databases of the current role that bear elefast's mark, oldest first.

    Args:
        connection: To the maintenance database.
        kinds: The kinds to list. Without any, all kinds are listed.
        owner: The owner in the names; empty for all owners.
    """
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
    """The size of database `name` on the server's disk, in bytes."""
    ((found,),) = rows(connection, "select pg_database_size(cast(:name as name))", name=name)
    return int(found)


def create(connection: Connection, name: Name, *, encoding: str, strategy: str = "") -> None:
    """Create an empty database from ``template0``, which cannot have been changed because it takes no connections.

    Args:
        connection: To the maintenance database.
        name: The name of the new database.
        encoding: Its encoding.
        strategy: The ``STRATEGY`` of CREATE DATABASE; empty for the server's default.
    """
    options = f" ENCODING {literal(encoding)}" + (f" STRATEGY {strategy}" if strategy else "")
    execute(connection, f"CREATE DATABASE {identifier(str(name))} TEMPLATE template0{options}")


def clone(connection: Connection, name: Name, *, template: str, strategy: str = "") -> None:
    """Create a database as a copy of `template`.

    Args:
        connection: To the maintenance database.
        name: The name of the new database.
        template: The name of the database to copy.
        strategy: The ``STRATEGY`` of CREATE DATABASE; empty for the server's default.
    """
    option = f" STRATEGY {strategy}" if strategy else ""
    execute(connection, f"CREATE DATABASE {identifier(str(name))} TEMPLATE {identifier(template)}{option}")


def comment(connection: Connection, name: str, text: str) -> None:
    """Set the comment of database `name`.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
    """
    check_ownership(connection, name, "changed")
    execute(connection, f"COMMENT ON DATABASE {identifier(name)} IS {literal(text)}")


def rename(connection: Connection, name: str, new: Name) -> None:
    """Rename a database that has no sessions.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
    """
    check_ownership(connection, name, "renamed")
    execute(connection, f"ALTER DATABASE {identifier(name)} RENAME TO {identifier(str(new))}")


def rename_own_statements(oid: int, name: str, new: Name) -> list[str]:
    """The statements by which the only session on a database renames it, for `reason_against_rename`.

    ``ALTER DATABASE`` refuses that, but a superuser may change the catalog. A backend that connects holds a lock on the
    database from before it checks the name for the last time until after it is listed in ``pg_stat_activity``
    (InitPostgres in utils/init/postinit.c). So once the new name is committed, a client that used the old one holds the
    lock, or is listed, or gets an error. The lock is looked for first: a backend passes from the one to the other.

    Args:
        oid: The oid of the database.
        name: Its name.
        new: Its new name.

    Raises:
        RefusedError: The name does not bear elefast's mark.
    """
    if Name.parse(name) is None:
        raise _foreign(name, "renamed")
    return [
        f"UPDATE pg_catalog.pg_database SET datname = {literal(str(new))}"
        f" WHERE oid = {oid} AND datname = {literal(name)}"
        " AND datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user) RETURNING oid",
        "SELECT pid FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass"
        f" AND objid = {oid} AND pid <> pg_backend_pid()",
        f"SELECT pid FROM pg_stat_activity WHERE datid = {oid} AND pid <> pg_backend_pid()",
    ]


def reason_against_rename(found: Sequence[Sequence[Any]]) -> str:
    """The reason why the database must not be used after `rename_own_statements`; empty if it may be.

    Args:
        found: The rows of the three statements.
    """
    renamed, connecting, connected = found
    if not renamed:
        return "it has another name or owner"
    return "another session is connected to it" if connecting or connected else ""


def seal(connection: Connection, name: str) -> None:
    """Mark database `name` as a template, and close it to connections, because a session on it would block cloning.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
    """
    check_ownership(connection, name, "changed")
    quoted = identifier(name)
    execute(connection, f"ALTER DATABASE {quoted} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true")


def allow_connections(connection: Connection, name: str, allowed: bool) -> None:
    """Open or close database `name` to new connections.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
    """
    check_ownership(connection, name, "changed")
    execute(connection, f"ALTER DATABASE {identifier(name)} WITH ALLOW_CONNECTIONS {str(allowed).lower()}")


def client_sessions(connection: Connection, name: str, but: int = 0) -> Sequence[ClientSession]:
    """The client sessions on database `name`, without the current one, and without the backend `but`.

    Sessions without a role are left out. They are autovacuum's workers, which PostgreSQL ends by itself. The query
    does not ask for ``backend_type``, because PostgreSQL hides it from ordinary roles for sessions of other roles.
    """
    found = prepared_rows(
        connection,
        """
        select pid, coalesce(application_name, ''), coalesce(state, ''), coalesce(query, '')
        from pg_stat_activity where datname = $1 and pid <> pg_backend_pid() and usesysid is not null
        """,
        name,
    )
    return [session for row in found if (session := ClientSession(*row)).pid != but]


def uncommitted_changes(connection: Connection, name: str) -> list[str]:
    """The sessions and prepared transactions with changes in database `name` that are not committed, in words."""
    writing = {
        pid
        for (pid,) in rows(
            connection, "select pid from pg_stat_activity where datname = :name and backend_xid is not null", name=name
        )
    }
    prepared = rows(connection, "select gid from pg_prepared_xacts where database = :name", name=name)
    sessions = [str(session) for session in client_sessions(connection, name) if session.pid in writing]
    return [*sessions, *(f"the prepared transaction {gid!r}" for (gid,) in prepared)]


def session_counts(connection: Connection, name: str) -> tuple[int, int, str]:
    """How many client sessions database `name` has had and has.

    Args:
        connection: To another database of the server.
        name: The database.

    Returns:
        The number of sessions since the statistics were reset, the number of sessions now, and `last_reset`.
        The first number is exact from PostgreSQL 15 on. PostgreSQL 14 counts with a delay of up to half a second.
    """
    # An ordinary role sees the kind of its own sessions only, but it sees of each session whether it has a role.
    # Autovacuum's workers have none.
    found = rows(
        connection,
        f"""
        select pg_stat_get_db_sessions(oid),
               (select count(*) from pg_stat_activity a where a.datid = d.oid and usesysid is not null),
               {last_reset("oid")}
        from pg_database d where datname = :name
        """,
        name=name,
    )
    return (int(found[0][0]), int(found[0][1]), str(found[0][2])) if found else (0, 0, "")


def last_reset(oid: str) -> str:
    """An SQL expression for the time when the statistics of a database were reset.

    Args:
        oid: An SQL expression for the oid of the database.

    Returns:
        The expression. Its value is text, and empty where the statistics were never reset.
    """
    return f"coalesce(extract(epoch from pg_stat_get_db_stat_reset_time({oid}))::text, '')"


def terminate(connection: Connection, name: str) -> bool:
    """Ask the sessions on database `name` to end. They take some milliseconds to do so.

    Returns:
        Whether the current role may end all of them. Those that it may not end go on.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
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


def _foreign(name: str, action: str) -> RefusedError:
    return RefusedError(
        f'database "{name}" is not {action}: its name does not bear elefast\'s mark. '
        "elefast drops only what it made; drop it yourself if you mean it.",
        code="foreign-database",
    )


def check_ownership(connection: Connection, name: str, action: str = "dropped", oid: int = 0) -> bool:
    """Check that elefast may drop or change database `name`.

    Args:
        connection: To another database.
        name: The name of the database.
        action: The participle for the message: ``dropped``, ``changed``, ``renamed``.
        oid: The oid that the database had when the caller saw it; 0 for any. A later database of the same name
            counts as missing.

    Returns:
        Whether the database exists.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
    """
    if Name.parse(name) is None:
        raise _foreign(name, action)
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
            f'database "{name}" is not {action}: it belongs to role "{found[0][0]}", not to this one. '
            "Connect as that one to drop it.",
            code="foreign-database",
        )
    return bool(found) and oid in (0, found[0][2])


def drop(connection: Connection, name: str, *, force: bool = False, oid: int = 0) -> bool:
    """Drop a database that elefast has made.

    Args:
        connection: In autocommit mode, to another database.
        name: The name of the database.
        force: End the sessions on it. Where a session is left, PostgreSQL sleeps for 100 ms before it looks again.
        oid: The oid of the database, as for `check_ownership`.

    Returns:
        Whether the database existed.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
    """
    if not check_ownership(connection, name, oid=oid):
        return False
    parsed = Name.parse(name)
    sealed = "select 1 from pg_database where datname = :name and datistemplate"
    # An earlier drop may have been interrupted after this statement. The server would end a session that repeated it.
    if (
        parsed is not None
        and parsed.kind in (Kind.DRAFT, Kind.TEMPLATE, Kind.VOLATILE)
        and rows(connection, sealed, name=name)
    ):
        execute(connection, f"ALTER DATABASE {identifier(name)} WITH IS_TEMPLATE false")
    option = " WITH (FORCE)" if force else ""
    execute(connection, f"DROP DATABASE IF EXISTS {identifier(name)}{option}")
    return True

"""Roles and tablespaces that the build of a template created.

They are shared by all databases of the cluster, so they survive the drop of the template. The build marks each of them
in its comment with the name of the draft. The draft and its template have the same owner and serial in their names, so
the comment leads to the template. Only objects with the mark are dropped, and only if nothing depends on them.

Objects are marked on servers that elefast has started, and never on other servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast.postgres.names import Name
from elefast.postgres.roles import MARK_START
from elefast.postgres.sql import execute, identifier, rows

__all__ = [
    "CREATE_STATEMENT",
    "ClusterObject",
    "dependent_databases",
    "drop_objects",
    "existing_object",
    "existing_objects",
    "mark_comment",
    "marked_objects",
]

CREATE_STATEMENT = re.compile(r"\bCREATE\s+(?:ROLE|USER|GROUP|TABLESPACE)\b", re.IGNORECASE)
"""Matches in a statement that may create such an object."""

_MARK = "elefast: made by the build of "
_ALREADY_EXISTS = re.compile(r'\b(role|tablespace) "((?:[^"]|"")+)" already exists')

_MARKED_OBJECTS = f"""
    select 'role', rolname::text, oid::bigint, shobj_description(oid, 'pg_authid') from pg_roles
    where shobj_description(oid, 'pg_authid') like '{_MARK}%'
    union all
    select 'tablespace', spcname::text, oid::bigint, shobj_description(oid, 'pg_tablespace') from pg_tablespace
    where shobj_description(oid, 'pg_tablespace') like '{_MARK}%'
"""


class ClusterObject(NamedTuple):
    """A role or tablespace that the build of a template created."""

    kind: str
    """``role`` or ``tablespace``."""
    name: str
    oid: int
    draft: Name
    """The draft whose build created it."""


def mark_comment(draft: str) -> str:
    """The comment on objects that the build of database `draft` creates."""
    return f"{_MARK}{draft}"


def marked_objects(connection: Connection) -> list[ClusterObject]:
    """All objects on the server that bear the mark."""
    found: list[ClusterObject] = []
    for kind, name, oid, comment in rows(connection, _MARKED_OBJECTS):
        draft = Name.parse(str(comment).removeprefix(_MARK))
        if draft is not None:
            found.append(ClusterObject(kind, name, int(oid), draft))
    return found


def drop_objects(connection: Connection, objects: Iterable[ClusterObject]) -> list[ClusterObject]:
    """Drop those objects that nothing depends on.

    PostgreSQL refuses to drop an object that a database refers to. elefast also keeps a role that has sessions, or
    that has members beside `objects`.

    Returns:
        The objects that were not dropped.
    """
    remaining = list(objects)
    while remaining:
        # A role that has granted rights to another one can only be dropped after that one.
        left = [item for item in remaining if not _drop_object(connection, item, remaining)]
        if len(left) == len(remaining):
            return left
        remaining = left
    return []


def _drop_object(connection: Connection, item: ClusterObject, together: Iterable[ClusterObject]) -> bool:
    # Check the mark again, because a test may have dropped the object and created another one of the same name.
    if item not in marked_objects(connection):
        return True
    if item.kind == "role" and _is_used(connection, item, {other.oid for other in together}):
        return False
    try:
        execute(connection, f"DROP {item.kind.upper()} {identifier(item.name)}")
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return False
    return True


def _is_used(connection: Connection, item: ClusterObject, together: set[int]) -> bool:
    if rows(connection, "select 1 from pg_stat_activity where usesysid = :oid limit 1", oid=item.oid):
        return True
    members = rows(
        connection,
        "select member::bigint from pg_auth_members join pg_roles me on me.rolname = current_user "
        "where roleid = :oid and member <> me.oid",
        oid=item.oid,
    )
    return any(int(member) not in together for (member,) in members)


def existing_objects(connection: Connection) -> set[tuple[str, str]]:
    """The kind and name of all roles and tablespaces, but for the roles that a project declares."""
    return {
        (kind, name)
        for kind, name in rows(
            connection,
            f"""
            select 'role', rolname::text from pg_roles
            where coalesce(shobj_description(oid, 'pg_authid'), '') not like '{MARK_START}%'
            union all select 'tablespace', spcname::text from pg_tablespace
            """,
        )
    }


def existing_object(message: str) -> tuple[str, str] | None:
    """The kind and name of the object that exists already, by an error of PostgreSQL; None for other errors."""
    found = _ALREADY_EXISTS.search(message)
    return (found[1], found[2].replace('""', '"')) if found else None


def dependent_databases(connection: Connection, kind: str, name: str) -> list[str]:
    """The databases that depend on a role or a tablespace.

    Args:
        connection: To any database of the server.
        kind: ``role`` or ``tablespace``.
        name: The name of the object.

    Returns:
        The names of databases with objects that a role owns or is mentioned in, or with files in a tablespace.
    """
    if kind == "tablespace":
        return [
            str(database)
            for (database,) in rows(
                connection,
                "select datname from pg_database where oid in (select pg_tablespace_databases(t.oid) "
                "from pg_tablespace t where spcname = :name) order by 1",
                name=name,
            )
        ]
    return [
        str(database)
        for (database,) in rows(
            connection,
            """
            select distinct d.datname from pg_shdepend s join pg_roles r on r.oid = s.refobjid
            join pg_database d on d.oid = case when s.dbid <> 0 then s.dbid else s.objid end
            where s.refclassid = 'pg_authid'::regclass and r.rolname = :name order by 1
            """,
            name=name,
        )
    ]

"""Roles and tablespaces that the build of a template made: they belong to no database, so they survive its drop.

Each bears a mark in its comment, which names the draft it was made for, and so the template: both have the same
owner and serial in their names. Only what bears the mark is ever dropped, and only while nothing depends on it.
On servers that elefast starts only; on others nothing gets a mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast.postgres.names import Name
from elefast.postgres.sql import execute, identifier, rows

__all__ = [
    "CREATE_STATEMENT",
    "ClusterObject",
    "dependent_databases",
    "drop_objects",
    "existing_object",
    "mark_comment",
    "marked_objects",
]

CREATE_STATEMENT = re.compile(r"\bCREATE\s+(?:ROLE|USER|GROUP|TABLESPACE)\b", re.IGNORECASE)
"""What a statement contains that may make such an object."""

_MARK = "elefast: made by the build of "
_CONFLICT = re.compile(r'\b(role|tablespace) "((?:[^"]|"")+)" already exists')

_MADE = f"""
    select 'role', rolname::text, oid::bigint, shobj_description(oid, 'pg_authid') from pg_roles
    where shobj_description(oid, 'pg_authid') like '{_MARK}%'
    union all
    select 'tablespace', spcname::text, oid::bigint, shobj_description(oid, 'pg_tablespace') from pg_tablespace
    where shobj_description(oid, 'pg_tablespace') like '{_MARK}%'
"""


class ClusterObject(NamedTuple):
    """An object that a build made."""

    kind: str
    """``role`` or ``tablespace``."""
    name: str
    oid: int
    draft: Name
    """The draft that was being built."""


def mark_comment(draft: str) -> str:
    """The comment of what the build of database `draft` makes."""
    return f"{_MARK}{draft}"


def marked_objects(connection: Connection) -> list[ClusterObject]:
    """Everything on the server that bears the mark."""
    found: list[ClusterObject] = []
    for kind, name, oid, comment in rows(connection, _MADE):
        draft = Name.parse(str(comment).removeprefix(_MARK))
        if draft is not None:
            found.append(ClusterObject(kind, name, int(oid), draft))
    return found


def drop_objects(connection: Connection, doomed: Iterable[ClusterObject]) -> list[ClusterObject]:
    """Drop those of `doomed` that nothing depends on; what is left, because something does.

    PostgreSQL itself refuses to drop what a database still refers to. A role that a session is connected as, or that
    other roles are members of, stays as well.
    """
    waiting = list(doomed)
    while waiting:
        # A role may only be droppable after another one that it has granted something to.
        left = [item for item in waiting if not _drop_object(connection, item, waiting)]
        if len(left) == len(waiting):
            return left
        waiting = left
    return []


def _drop_object(connection: Connection, item: ClusterObject, together: Iterable[ClusterObject]) -> bool:
    # Looked at again right before: a test may have dropped it and made another one of that name.
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


def existing_object(text: str) -> tuple[str, str] | None:
    """Kind and name of the object that PostgreSQL says exists already; None where it says nothing like that."""
    found = _CONFLICT.search(text)
    return (found[1], found[2].replace('""', '"')) if found else None


def dependent_databases(connection: Connection, kind: str, name: str) -> list[str]:
    """The databases in which something belongs to a role, or refers to it, or that have files in a tablespace."""
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

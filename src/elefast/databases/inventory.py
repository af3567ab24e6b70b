"""The inventory of elefast's databases on a server, for people: kind, project, test, size and sessions of each.

Its functions take a connection to the maintenance database, and change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast.postgres import advisory_locks, databases, spares
from elefast.postgres.databases import ClientSession, OwnDatabase
from elefast.postgres.names import Kind
from elefast.postgres.sql import rows
from elefast.templates import store

__all__ = ["KINDS", "Item", "inventory", "lock_of"]

KINDS: Mapping[Kind, str] = {
    Kind.CLONE: "test",
    Kind.SNAPSHOT: "snapshot",
    Kind.DRAFT: "draft",
    Kind.TEMPLATE: "template",
    Kind.VOLATILE: "run's template",
    Kind.FAILED: "failed build",
    Kind.SPARE: "ready",
    Kind.KEPT: "kept",
}
"""The name of each kind in output."""


class Item(NamedTuple):
    """A database of elefast.

    Args:
        name: Its name.
        kind: What it is for.
        run: The run that made it, or the key of its template.
        project: Its project, if its comment or that of its template names one; else empty.
        layer: The layer of a template: ``migrated``, ``seeded`` or a scenario; empty for other databases.
        test: The test that used it before it was kept, or that has it now; empty where that is unknown.
        since: When it was made or kept, in ISO form; empty where that is unknown.
        size: Bytes; -1 where the role may not ask.
        sessions: The sessions that are connected to it.
        holder: The session that holds the lock which protects it from sweeps; empty where no session does.
    """

    name: str
    kind: Kind
    run: str
    project: str
    layer: str
    test: str
    since: str
    size: int
    sessions: tuple[ClientSession, ...]
    holder: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "kind": KINDS[self.kind],
            "run": self.run,
            "project": self.project,
            "layer": self.layer,
            "test": self.test,
            "since": self.since,
            "size": self.size,
            "sessions": [str(session) for session in self.sessions],
            "holder": self.holder,
        }


def inventory(connection: Connection) -> list[Item]:
    """The databases with elefast's mark that belong to this role, oldest first."""
    found = databases.own_databases(connection)
    waiting = spares.projects_by_owner(found)
    return [_item(connection, entry, waiting) for entry in found]


def lock_of(entry: OwnDatabase) -> str:
    """The advisory lock that a process holds while it works with this database."""
    match entry.name.kind:
        case Kind.DRAFT:
            return store.build_lock(entry.name.owner)
        case Kind.VOLATILE | Kind.TEMPLATE:
            return store.use_lock(entry.text)
        case _:
            return entry.name.owner


def _item(connection: Connection, entry: OwnDatabase, waiting: Mapping[str, str]) -> Item:
    record = entry.record
    project = waiting.get(entry.name.owner, "") if entry.name.kind is Kind.SPARE else entry.project
    return Item(
        name=entry.text,
        kind=entry.name.kind,
        run=entry.name.owner,
        project=project,
        layer=store.layer_of(entry),
        test=str(record.get("test", "")),
        since=str(record.get("built") or record.get("kept") or _made(connection, entry.text)),
        size=_size(connection, entry.text),
        sessions=tuple(databases.client_sessions(connection, entry.text)) if entry.busy else (),
        holder="" if entry.name.kind in (Kind.SPARE, Kind.KEPT) else advisory_locks.holder(connection, lock_of(entry)),
    )


def _size(connection: Connection, name: str) -> int:
    try:
        return databases.size(connection, name)
    except DBAPIError:
        return -1  # it was dropped, or the role may not connect to it


def _made(connection: Connection, name: str) -> str:
    """When the directory of database `name` was made; only a superuser may ask."""
    try:
        found = rows(
            connection,
            """
            select to_char(f.modification at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')
            from pg_database d, pg_stat_file('base/' || d.oid || '/PG_VERSION', true) f
            where d.datname = :name
            """,
            name=name,
        )
    except DBAPIError:
        return ""
    return str(found[0][0] or "") if found else ""

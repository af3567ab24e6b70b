"""Databases as their template made them, left on the server by a run for the next one of the same template.

They are closed to connections while they wait, so nobody can write to them, and nobody holds up the
rename by which a run takes one over. A rename is what only one of two processes can do.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from elefast.postgres import advisory_locks, databases
from elefast.postgres.databases import OwnDatabase
from elefast.postgres.names import OWNER_LENGTH, Kind, Name, new_serial
from elefast.runtime.hashing import short_digest

__all__ = ["add", "claim", "find", "lock_name", "orphaned", "projects_by_owner"]


def owner_of(template: str) -> str:
    """The owner in the names of databases that wait for who clones `template`, which has its build in its name."""
    return short_digest(template, OWNER_LENGTH)


def lock_name(name: Name) -> str:
    """The lock that whoever leaves or sweeps databases like `name` holds."""
    return f"ready {name.owner}"


def find(connection: Connection, template: str) -> list[str]:
    """The databases that wait for a run of `template`, oldest first."""
    found = databases.own_databases(connection, Kind.SPARE, owner=owner_of(template))
    return [entry.text for entry in found if not entry.invalid]


def add(connection: Connection, template: str, names: Sequence[str], at_most: int) -> None:
    """Leave databases for the next run, until there are `at_most` for `template` on the server.

    Args:
        connection: To the maintenance database.
        template: The name of the template that they are copies of.
        names: Databases as the template made them; those that stay get other names.
        at_most: How many may wait in all.
    """
    final = [Name("elefast", Kind.SPARE, owner_of(template), new_serial()) for _ in names]
    if not final:
        return
    turn = lock_name(final[0])
    advisory_locks.acquire(connection, turn)
    try:
        room = at_most - len(find(connection, template))
        for name, new in list(zip(names, final, strict=True))[: max(0, room)]:
            # One whose backend has not gone yet would make the rename wait, and one may have been swept.
            if databases.exists(connection, name) and not databases.client_sessions(connection, name):
                databases.allow_connections(connection, name, False)
                databases.rename(connection, name, new)
    finally:
        advisory_locks.release(connection, turn)


def claim(connection: Connection, name: str, new: Name) -> None:
    """Take over `name` under the name `new`; the server has no such database where somebody else was quicker."""
    databases.rename(connection, name, new)
    databases.allow_connections(connection, str(new), True)


def projects_by_owner(found: Sequence[OwnDatabase]) -> dict[str, str]:
    """By the owner in the names of waiting databases, the project whose template they wait for."""
    return {owner_of(entry.text): entry.project for entry in found if entry.name.kind is Kind.TEMPLATE}


def orphaned(found: Sequence[OwnDatabase]) -> list[OwnDatabase]:
    """Those of `found` that wait for a template which is not in `found`."""
    owners = {owner_of(entry.text) for entry in found if entry.name.kind is Kind.TEMPLATE}
    return [entry for entry in found if entry.name.kind is Kind.SPARE and entry.name.owner not in owners]

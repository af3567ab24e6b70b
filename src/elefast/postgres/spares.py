"""Spare databases: unused copies of a template that a run leaves on the server for the next run.

A spare is closed to connections, so no session can write to it or block its rename. A run claims a spare by renaming
it, which succeeds in only one of several processes.
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
    """The owner in the names of the spares of `template`. The template's name differs for each of its builds."""
    return short_digest(template, OWNER_LENGTH)


def lock_name(name: Name) -> str:
    """The advisory lock for adding and sweeping the spares of the same template as `name`."""
    return f"ready {name.owner}"


def find(connection: Connection, template: str) -> list[str]:
    """The names of the spares of `template`, oldest first."""
    found = databases.own_databases(connection, Kind.SPARE, owner=owner_of(template))
    return [entry.text for entry in found if not entry.invalid]


def add(connection: Connection, template: str, names: Sequence[str], at_most: int) -> None:
    """Turn unused copies of a template into spares, until the template has `at_most`.

    Args:
        connection: To the maintenance database.
        template: The name of the template.
        names: The unused copies. Those that become spares are renamed; the others keep their names.
        at_most: The largest number of spares of the template.
    """
    new_names = [Name("elefast", Kind.SPARE, owner_of(template), new_serial()) for _ in names]
    if not new_names:
        return
    lock = lock_name(new_names[0])
    advisory_locks.acquire(connection, lock)
    try:
        room = at_most - len(find(connection, template))
        for name, new in list(zip(names, new_names, strict=True))[: max(0, room)]:
            # A session that is about to end would block the rename, and another run may have swept the database.
            if databases.exists(connection, name) and not databases.client_sessions(connection, name):
                databases.allow_connections(connection, name, False)
                databases.rename(connection, name, new)
    finally:
        advisory_locks.release(connection, lock)


def claim(connection: Connection, name: str, new: Name) -> None:
    """Make the spare `name` a database of this run.

    Args:
        connection: To the maintenance database.
        name: The name of the spare.
        new: The new name.

    Raises:
        sqlalchemy.exc.DBAPIError: Another run has claimed it, so the server has no database of this name.
    """
    databases.rename(connection, name, new)
    databases.allow_connections(connection, str(new), True)


def projects_by_owner(found: Sequence[OwnDatabase]) -> dict[str, str]:
    """The project of each template in `found`, by the owner in the names of its spares."""
    return {owner_of(entry.text): entry.project for entry in found if entry.name.kind is Kind.TEMPLATE}


def orphaned(found: Sequence[OwnDatabase]) -> list[OwnDatabase]:
    """The spares in `found` whose template is not in `found`."""
    owners = {owner_of(entry.text) for entry in found if entry.name.kind is Kind.TEMPLATE}
    return [entry for entry in found if entry.name.kind is Kind.SPARE and entry.name.owner not in owners]

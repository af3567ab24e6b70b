"""Prepared transactions and subscriptions, which block DROP DATABASE even with FORCE.

This module finds them and removes them over a connection to the database that is to be dropped. The caller has checked
by `elefast.postgres.databases` that elefast may drop it.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from elefast.postgres.databases import ClientSession
from elefast.postgres.sql import execute, identifier, literal, rows

__all__ = ["DropBlocker", "Leftover", "UncountedChanges", "find_blockers", "remove_blocker"]


class DropBlocker(NamedTuple):
    """A prepared transaction or a subscription, which outlasts all sessions."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"'


class UncountedChanges(NamedTuple):
    """Changes that PostgreSQL did not count, so that the reset of the database left them there."""

    name: str

    def __str__(self) -> str:
        return (
            f"{self.name} has changes that PostgreSQL did not count, because a session switched track_counts off. "
            "This test or an earlier one with the same database made them, and tests in between saw them. "
            "No database is reset any more in this run. Set pool.reuse = false to isolate such tests"
        )


Leftover = ClientSession | DropBlocker | UncountedChanges
"""A leftover of a test that was removed before the database was dropped."""


def find_blockers(connection: Connection, name: str) -> list[DropBlocker]:
    """The prepared transactions and subscriptions of database `name`."""
    found = rows(
        connection,
        """
        select 'prepared transaction', gid from pg_prepared_xacts where database = :name
        union all
        select 'subscription', subname::text from pg_subscription
        where subdbid = (select oid from pg_database where datname = :name)
        """,
        name=name,
    )
    return [DropBlocker(*row) for row in found]


def remove_blocker(connection: Connection, blocker: DropBlocker) -> None:
    """Roll back a prepared transaction, or drop a subscription without its slot on the publisher.

    Args:
        connection: In autocommit mode, to the database of the blocker.
        blocker: A result of `find_blockers`.
    """
    if blocker.kind == "prepared transaction":
        execute(connection, f"ROLLBACK PREPARED {literal(blocker.name)}")
        return
    quoted = identifier(blocker.name)
    execute(connection, f"ALTER SUBSCRIPTION {quoted} DISABLE")
    # Without a slot, DROP SUBSCRIPTION does not connect to the publisher, which may be gone or not elefast's to change.
    execute(connection, f"ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)")
    execute(connection, f"DROP SUBSCRIPTION {quoted}")

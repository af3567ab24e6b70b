"""What PostgreSQL does not drop a database with, whatever force is used: found, and cleared from inside.

It is in a database that goes, so it goes with it; which database may go is for `elefast.postgres.databases` to check.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from elefast.postgres.databases import ClientSession
from elefast.postgres.sql import execute, identifier, literal, rows

__all__ = ["DropBlocker", "Leftover", "UncountedChanges", "find_blockers", "remove_blocker"]


class DropBlocker(NamedTuple):
    """A prepared transaction or a subscription, which stays when all sessions have ended."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"'


class UncountedChanges(NamedTuple):
    """Changes that PostgreSQL did not count, so that the database was reset although they stayed."""

    name: str

    def __str__(self) -> str:
        return (
            f"{self.name} has changes that PostgreSQL did not count, as a session had switched track_counts off: "
            "made in this test or in an earlier one with the same database, and seen by those in between; "
            "no database is reset any more in this run; pool.reuse = false keeps such tests apart"
        )


Leftover = ClientSession | DropBlocker | UncountedChanges
"""What was left on a database and had to go before it."""


def find_blockers(connection: Connection, name: str) -> list[DropBlocker]:
    """What stands in the way of dropping database `name`, beside sessions."""
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
    """Roll back or drop `blocker`; what a subscription has on its publisher stays there.

    Args:
        connection: In autocommit mode, to the database that it is in.
        blocker: One of `find_blockers`.
    """
    if blocker.kind == "prepared transaction":
        execute(connection, f"ROLLBACK PREPARED {literal(blocker.name)}")
        return
    quoted = identifier(blocker.name)
    execute(connection, f"ALTER SUBSCRIPTION {quoted} DISABLE")
    # Without its slot the publisher is not asked, which may be gone or be somebody else's.
    execute(connection, f"ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)")
    execute(connection, f"DROP SUBSCRIPTION {quoted}")

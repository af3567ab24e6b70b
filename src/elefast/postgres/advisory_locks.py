"""Advisory locks. A run holds one as a sign of life, and the process that builds a template holds another.

An advisory lock belongs to the database of the session that takes it. Therefore all processes must connect to the same
database. The server releases the locks when the session ends for any reason, so they need no timeout and no clean-up.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection

from elefast.postgres.sql import scalar

__all__ = ["acquire", "acquire_shared", "holder", "release", "release_shared", "try_acquire"]


def lock_number(name: str) -> int:
    """The number of the lock `name`: a signed integer of 64 bits, as ``pg_advisory_lock(bigint)`` takes it."""
    return int.from_bytes(hashlib.blake2b(f"elefast {name}".encode(), digest_size=8).digest(), "big", signed=True)


def acquire(connection: Connection, name: str) -> None:
    """Wait for the exclusive lock `name` and take it."""
    scalar(connection, "select 1 from pg_advisory_lock(:number)", number=lock_number(name))


def try_acquire(connection: Connection, name: str) -> bool:
    """Take the exclusive lock `name` if it is free, and return whether it was."""
    return bool(scalar(connection, "select pg_try_advisory_lock(:number)", number=lock_number(name)))


def release(connection: Connection, name: str) -> None:
    """Release the exclusive lock `name`."""
    scalar(connection, "select pg_advisory_unlock(:number)", number=lock_number(name))


def acquire_shared(connection: Connection, name: str) -> None:
    """Wait for the shared lock `name` and take it."""
    scalar(connection, "select 1 from pg_advisory_lock_shared(:number)", number=lock_number(name))


def release_shared(connection: Connection, name: str) -> None:
    """Release the shared lock `name`."""
    scalar(connection, "select pg_advisory_unlock_shared(:number)", number=lock_number(name))


def holder(connection: Connection, name: str) -> str:
    """The name and process id of a session that holds the lock `name`, for a message; empty if the lock is free."""
    unsigned = lock_number(name) & 0xFFFFFFFFFFFFFFFF
    found = scalar(
        connection,
        """
        select format('%s (pid %s)', coalesce(nullif(a.application_name, ''), 'a session'), a.pid)
        from pg_locks l join pg_stat_activity a on a.pid = l.pid
        where l.locktype = 'advisory' and l.granted and l.objsubid = 1
          and l.classid::bigint = :high and l.objid::bigint = :low
        limit 1
        """,
        high=unsigned >> 32,
        low=unsigned & 0xFFFFFFFF,
    )
    return str(found or "")

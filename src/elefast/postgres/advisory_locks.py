"""Advisory locks of a session: signs of life of runs, and turns at building a template.

An advisory lock belongs to the database that the session is connected to, so every process must take
its locks on the same one; `elefast.databases.manager` sees to that.
The server releases them when the session ends, however it ends: no timeouts, no clocks, no clean-up.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection

from elefast.postgres.sql import scalar

__all__ = ["acquire", "acquire_shared", "holder", "release", "release_shared", "try_acquire"]


def lock_number(name: str) -> int:
    """The lock's number for `name`: 64 bits, signed, as ``pg_advisory_lock(bigint)`` takes it."""
    return int.from_bytes(hashlib.blake2b(f"elefast {name}".encode(), digest_size=8).digest(), "big", signed=True)


def acquire(connection: Connection, name: str) -> None:
    """Wait for the lock `name` and take it."""
    scalar(connection, "select 1 from pg_advisory_lock(:number)", number=lock_number(name))


def try_acquire(connection: Connection, name: str) -> bool:
    """Take the lock `name` if it is free; say whether it was."""
    return bool(scalar(connection, "select pg_try_advisory_lock(:number)", number=lock_number(name)))


def release(connection: Connection, name: str) -> None:
    """Let go of the lock `name`."""
    scalar(connection, "select pg_advisory_unlock(:number)", number=lock_number(name))


def acquire_shared(connection: Connection, name: str) -> None:
    """Wait for the lock `name` and take it together with others."""
    scalar(connection, "select 1 from pg_advisory_lock_shared(:number)", number=lock_number(name))


def release_shared(connection: Connection, name: str) -> None:
    """Let go of a shared hold on the lock `name`."""
    scalar(connection, "select pg_advisory_unlock_shared(:number)", number=lock_number(name))


def holder(connection: Connection, name: str) -> str:
    """Who holds the lock `name`, for a message; empty where nobody does."""
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

"""Finds out whether the database of a connection can be opened once more, by another process.

Only then can migrations run in an interpreter of their own.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import URL, Connection

from elefast.postgres.urls import dsn, libpq_url

__all__ = ["Unreachable", "reopen"]

# Which database of which server this is: a server has one start, and a database one number.
_IDENTITY = (
    "SELECT oid::text, datname::text, pg_postmaster_start_time()::text FROM pg_database "
    "WHERE datname = current_database()"
)
# What the connection did so far that nobody else sees, or that others would have to wait for.
_PENDING = (
    "SELECT pg_current_xact_id_if_assigned() IS NOT NULL OR EXISTS (SELECT FROM pg_locks "
    "WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384)"
)
_TIMEOUT = 10


class Unreachable(Exception):  # noqa: N818  not an error: there is another way
    """The database cannot be opened again; the text says why."""


def reopen(connection: Connection) -> URL:
    """A URL that leads to the database of `connection`, tried out.

    Raises:
        Unreachable: There is none: the connection has uncommitted work, or its engine's URL leads elsewhere.
    """
    began = connection.in_transaction()
    try:
        identity = tuple(connection.exec_driver_sql(_IDENTITY).one())
        pending = connection.exec_driver_sql(_PENDING).scalar_one()
    finally:
        if not began and connection.in_transaction():
            connection.rollback()
    if began and pending:
        raise Unreachable("it has a transaction with uncommitted work")
    url = libpq_url(connection.engine.url)
    try:
        with psycopg.connect(dsn(url), connect_timeout=_TIMEOUT, autocommit=True, hostaddr="") as another:
            row: Any = another.execute(_IDENTITY).fetchone()
    except psycopg.Error as error:
        raise Unreachable(f"its URL cannot be opened from outside ({str(error).strip()})") from error
    if tuple(row) != identity:
        raise Unreachable("its URL leads to another database")
    return url

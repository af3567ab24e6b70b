"""What is on a server, to be compared with what was there before."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from elefast.postgres.names import Kind, Name

__all__ = ["Remains"]

_OTHERS = b"""
SELECT 'role ' || rolname FROM pg_roles
UNION ALL SELECT 'tablespace ' || spcname FROM pg_tablespace
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts
UNION ALL SELECT format('settings of %s, %s', setdatabase, setrole) FROM pg_db_role_setting
UNION ALL SELECT format('session %s (%s)', pid, application_name) FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
UNION ALL SELECT format('lock %s %s of %s', classid, objid, pid) FROM pg_locks WHERE locktype = 'advisory'
"""


class Remains:
    """Compares a server with how it was before. Other tests of the run use the same server and may leave databases.

    Args:
        connection: To the server, as a superuser, in autocommit.
    """

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._databases: dict[str, Name | None] = {}
        self._others: set[str] = set()

    def note(self) -> None:
        """Remember what there is."""
        self._databases, self._others = self._look()

    def check(self, *kinds: Kind) -> None:
        """See that there is nothing more than was noted, but databases of these kinds, which stay for the next run."""
        deadline = time.monotonic() + 30  # a session ends behind whoever closes it
        while left := self._left(kinds):
            assert time.monotonic() < deadline, left
            time.sleep(0.02)

    def _left(self, kinds: tuple[Kind, ...]) -> list[str]:
        databases, others = self._look()
        new = [
            text
            for text, name in databases.items()
            if text not in self._databases and not (name and name.kind in kinds)
        ]
        return [*new, *(others - self._others)]

    def _look(self) -> tuple[dict[str, Name | None], set[str]]:
        names = [name for (name,) in self._connection.execute(b"SELECT datname FROM pg_database")]
        return {name: Name.parse(name) for name in names}, {text for (text,) in self._connection.execute(_OTHERS)}

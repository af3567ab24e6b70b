"""Spare databases: unused copies of a template that earlier runs have left, which this run takes instead of copying."""

from __future__ import annotations

import threading

from sqlalchemy.exc import DBAPIError

from elefast.postgres import databases, driver_errors, spares
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.names import Name

__all__ = ["SparePool"]


class SparePool:
    """The spare databases on a server, as far as this process knows; safe for threads."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def take(self, session: MaintenanceSession, template: str, name: Name) -> bool:
        """Take a spare copy of `template` by renaming it to `name`; False where there is none.

        This asks the server once for each template. Spares that are left later are for later runs.
        """
        with self._lock:
            if template not in self._names:
                self._names[template] = session.call(spares.find, template)
        while True:
            with self._lock:
                if not self._names[template]:
                    return False
                spare = self._names[template].pop()
            try:
                session.call(spares.claim, spare, name)
            except DBAPIError as error:
                # Another process has taken it, or is about to drop it.
                if driver_errors.sqlstate(error) not in ("3D000", "55006"):
                    raise
                if session.call(databases.exists, str(name)):
                    # This process has taken it: the connection was lost before the answer came, and the call repeated.
                    session.call(databases.allow_connections, str(name), True)
                    return True
            else:
                return True

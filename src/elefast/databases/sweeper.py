"""What runs leave on a server: unused databases, which the next run takes over, and what dead runs could not drop.

An advisory lock that nobody holds tells who is dead; see `elefast.postgres.names` for what each kind of database is.
"""

from __future__ import annotations

import threading
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from elefast.databases.inventory import lock_of
from elefast.postgres import advisory_locks, databases, driver_errors, spares
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.databases import OwnDatabase
from elefast.postgres.drop_blockers import find_blockers
from elefast.postgres.names import Kind, Name
from elefast.templates.builder import drop_orphans, drop_unused

__all__ = ["Scope", "SparePool", "sweep", "would_sweep"]

_SWEPT = {Kind.CLONE, Kind.DRAFT, Kind.VOLATILE, Kind.FAILED}


class SparePool:
    """The databases that earlier runs have left for this one, as far as it knows; safe to share by threads."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def take(self, session: MaintenanceSession, template: str, name: Name) -> bool:
        """Give `name` to one that was left for `template`; False where there is none.

        Whatever there is is asked for once: who leaves something later leaves it for later runs.
        """
        with self._lock:
            if template not in self._names:
                self._names[template] = session.call(spares.find, template)
        while True:
            with self._lock:
                if not self._names[template]:
                    return False
                left = self._names[template].pop()
            try:
                session.call(spares.claim, left, name)
            except DBAPIError as error:
                # Somebody else has it, or is about to drop it.
                if driver_errors.sqlstate(error) not in ("3D000", "55006"):
                    raise
                if session.call(databases.exists, str(name)):
                    # It was us: the connection was lost in the middle, and what was done is done again.
                    session.call(databases.allow_connections, str(name), True)
                    return True
            else:
                return True


class Scope(NamedTuple):
    """What a sweep drops besides what dead runs left.

    Args:
        project: Only kept databases and templates of this project; None for those of all, and of no known project.
        kept: How many databases that were kept for a look stay.
        templates: Drop templates that no run uses now as well.
    """

    project: str | None
    kept: int
    templates: bool = False

    def has(self, entry: OwnDatabase) -> bool:
        """Whether a kept database or a template is of the project."""
        # Without a name there is no project: what names none is not known to be of the one that asks.
        return self.project is None or (bool(self.project) and entry.project == self.project)


def sweep(session: MaintenanceSession, run: str, ours: AbstractSet[str], scope: Scope) -> list[str]:
    """Drop what dead runs left, by their free locks, never by force; the names of what went.

    Args:
        session: A lock does not keep out the session that has it, hence `run` and `ours`.
        run: The run that asks, which is alive.
        ours: The templates that it uses.
        scope: What else goes.
    """
    found = _doomed(session.call(databases.own_databases), run, ours, scope)
    gone = [entry.text for entry in found if _drop(session, entry)]
    return gone + drop_orphans(session)


def would_sweep(session: MaintenanceSession, run: str, ours: AbstractSet[str], scope: Scope) -> list[str]:
    """What `sweep` would drop now; it drops nothing."""
    entries = session.call(databases.own_databases)
    found = _doomed(entries, run, ours, scope)
    gone = [entry for entry in found if not session.call(advisory_locks.holder, lock_of(entry))]
    left = [entry for entry in entries if entry not in gone]
    return [entry.text for entry in gone + spares.orphaned(left)]


def _drop(session: MaintenanceSession, entry: OwnDatabase) -> bool:
    if session.call(drop_unused, entry.text, lock_of(entry), entry.oid):
        return True
    if session.call(advisory_locks.holder, lock_of(entry)) or not session.call(find_blockers, entry.text):
        return False
    # Its run is dead for good, so nobody will finish what it has prepared.
    return bool(session.unblock(entry.text)) and session.call(drop_unused, entry.text, lock_of(entry), entry.oid)


def _doomed(found: list[OwnDatabase], run: str, ours: AbstractSet[str], scope: Scope) -> list[OwnDatabase]:
    """What may go unless somebody holds its lock."""
    doomed = [entry for entry in found if entry.name.kind in _SWEPT or entry.invalid]
    if scope.templates:
        doomed += [e for e in found if e.name.kind is Kind.TEMPLATE and not e.invalid and scope.has(e)]
    doomed = [entry for entry in doomed if entry.name.owner != run and entry.text not in ours]
    kept = [entry for entry in found if entry.name.kind is Kind.KEPT and not entry.invalid and scope.has(entry)]
    doomed += kept[: max(0, len(kept) - scope.kept)]
    return [entry for entry in doomed if not entry.busy]

"""The sweep: drops what dead runs have left on a server, and on request kept databases and unused templates.

A run is dead when its advisory lock is free. `elefast.postgres.names` lists the kinds of databases.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from elefast.databases.inventory import lock_of
from elefast.postgres import advisory_locks, databases, spares
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.databases import OwnDatabase
from elefast.postgres.drop_blockers import find_blockers
from elefast.postgres.names import Kind
from elefast.templates.store import drop_orphans, drop_unused

__all__ = ["SweepScope", "sweep", "would_sweep"]

_SWEPT = {Kind.CLONE, Kind.SNAPSHOT, Kind.DRAFT, Kind.VOLATILE, Kind.FAILED}


class SweepScope(NamedTuple):
    """What a sweep drops besides the databases of dead runs.

    Args:
        project: The project whose kept databases and templates it drops; None for those of all projects and of none.
        kept: How many kept databases stay.
        templates: Whether it also drops templates that no run uses now.
    """

    project: str | None
    kept: int
    templates: bool = False

    def covers(self, entry: OwnDatabase) -> bool:
        """Whether a kept database or a template belongs to the project."""
        # An empty name is no project: two databases without one need not belong together.
        return self.project is None or (bool(self.project) and entry.project == self.project)


def sweep(session: MaintenanceSession, run: str, ours: AbstractSet[str], scope: SweepScope) -> list[str]:
    """Drop what dead runs have left, never by force.

    Args:
        session: The session of this run. Its locks do not exclude itself, hence `run` and `ours`.
        run: This run.
        ours: The templates that it uses.
        scope: What else to drop.

    Returns:
        The names of the dropped databases.
    """
    found = _candidates(session.call(databases.own_databases), run, ours, scope)
    dropped = [entry.text for entry in found if _drop(session, entry)]
    return dropped + drop_orphans(session)


def would_sweep(session: MaintenanceSession, run: str, ours: AbstractSet[str], scope: SweepScope) -> list[str]:
    """The names of the databases that `sweep` would drop now; this drops nothing."""
    entries = session.call(databases.own_databases)
    found = _candidates(entries, run, ours, scope)
    unlocked = [entry for entry in found if not session.call(advisory_locks.holder, lock_of(entry))]
    others = [entry for entry in entries if entry not in unlocked]
    return [entry.text for entry in unlocked + spares.orphaned(others)]


def _drop(session: MaintenanceSession, entry: OwnDatabase) -> bool:
    if session.call(drop_unused, entry.text, lock_of(entry), entry.oid):
        return True
    if session.call(advisory_locks.holder, lock_of(entry)) or not session.call(find_blockers, entry.text):
        return False
    # Its run is dead, so no process will finish the transactions that it has prepared.
    return bool(session.clear_blockers(entry.text)) and session.call(drop_unused, entry.text, lock_of(entry), entry.oid)


def _candidates(found: list[OwnDatabase], run: str, ours: AbstractSet[str], scope: SweepScope) -> list[OwnDatabase]:
    """The databases that may be dropped, unless their lock is held."""
    candidates = [entry for entry in found if entry.name.kind in _SWEPT or entry.invalid]
    if scope.templates:
        candidates += [e for e in found if e.name.kind is Kind.TEMPLATE and not e.invalid and scope.covers(e)]
    candidates = [entry for entry in candidates if entry.name.owner != run and entry.text not in ours]
    kept = [entry for entry in found if entry.name.kind is Kind.KEPT and not entry.invalid and scope.covers(entry)]
    candidates += kept[: max(0, len(kept) - scope.kept)]
    return [entry for entry in candidates if not entry.busy]

"""Snapshots of databases: copies that a test takes of its database, and restores it from.

    take     name ──copy──► snapshot (closed to connections)
    restore  equal to the snapshot but for writes that can be undone? ── yes ──► reset
              │ no
              ▼
             copy of the snapshot ──rename──► name;  the database that had the name is dropped

PostgreSQL copies and renames only databases without sessions, so sessions that stay are ended, and the caller reports
them. The first restore is a copy, whose history is known from its first moment on. The state of the second one is
recorded, so that later ones may be resets, see `elefast.postgres.reset`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from elefast.databases.manager import DatabaseManager
from elefast.databases.resetter import DatabaseResetter
from elefast.errors import ElefastError, RefusedError
from elefast.postgres import database_properties, databases, driver_errors
from elefast.postgres.contents import TemplateContents, read_contents
from elefast.postgres.drop_blockers import Leftover
from elefast.postgres.names import Kind, Name
from elefast.postgres.server import NO_EVENT_TRIGGERS
from elefast.postgres.sql import execute
from elefast.templates.store import Template

__all__ = ["DatabaseSnapshots", "TakenSnapshot"]

T = TypeVar("T")

_log = logging.getLogger("elefast")

_ATTEMPTS = 5
"""How often a copy or a rename is tried while the application connects again and again."""


class TakenSnapshot(NamedTuple):
    """A snapshot on the server.

    Args:
        name: The name of its database.
        database: The database that it was taken of.
        properties: The properties that a copy does not get, as statements; see `elefast.postgres.database_properties`.
    """

    name: str
    database: str
    properties: tuple[str, ...]


class DatabaseSnapshots:
    """The snapshots of one process on one server; safe for threads.

    Args:
        manager: Makes and drops databases.
        resetter: Resets databases that equal a snapshot but for their last writes; None where each restore is a copy.
            It must not be the resetter of the pool, which resets databases to their template.
        engine: Makes the maintenance engine to a database with which the contents of a snapshot are read; None
            without `resetter`.
        discard: Has a database dropped in the background; False where it did not.
    """

    def __init__(
        self,
        manager: DatabaseManager,
        *,
        resetter: DatabaseResetter | None = None,
        engine: Callable[..., Engine] | None = None,
        discard: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self._manager = manager
        self._resetter = resetter
        self._engine = engine
        self._discard = discard
        self._lock = threading.RLock()
        self._taken: dict[str, TakenSnapshot] = {}
        """The snapshots that exist, by the names of their databases."""
        self._restored: dict[str, int] = {}
        """How often each snapshot was restored by a copy."""
        self._contents: dict[str, TemplateContents | None] = {}
        self._bases: dict[str, str] = {}
        """The snapshot that the resetter can reset a database to, by the name of the database."""
        self._unreachable: deque[TakenSnapshot] = deque()

    @property
    def resets(self) -> int:
        """How many restores were resets."""
        return len(self._resetter.resets) if self._resetter is not None else 0

    def check_committed(self, name: str) -> None:
        """Check that no session has changes in database `name` that are not committed.

        Raises:
            RefusedError: A session has, or a prepared transaction.
        """
        writers = self._manager.session.call(databases.uncommitted_changes, name)
        if not writers:
            return
        raise RefusedError(
            f'no snapshot is taken of database "{name}": a session has changes that are not committed, and a snapshot '
            f"would lose them:{''.join(f'{chr(10)}  {writer}' for writer in writers)}\n"
            "Commit or roll back first",
            code="snapshot-uncommitted",
        )

    def take(self, name: str) -> tuple[TakenSnapshot, list[Leftover]]:
        """Take a snapshot of database `name`.

        Returns:
            The snapshot, and the sessions that had to be ended.

        Raises:
            RefusedError: A session has changes that are not committed, or the database is not one of this run.
        """
        with self._lock:
            self._check(name, "copied")
            self._drop_unreachable()
            session = self._manager.session
            stayed: list[Leftover] = []
            session.remaining_sessions(name)  # a backend outlives its connection for a moment
            self.check_committed(name)
            properties = tuple(session.call(database_properties.read_properties, name))
            copied = self._retrying(
                name, stayed, lambda: self._manager.copy(Template(name, (), None, "", built=False), Kind.SNAPSHOT)
            )
            session.call(databases.allow_connections, str(copied), False)
            taken = TakenSnapshot(str(copied), name, properties)
            self._taken[taken.name] = taken
            return taken, stayed

    def restore(self, name: str, taken: TakenSnapshot) -> list[Leftover]:
        """Make database `name` what it was when the snapshot was taken.

        Returns:
            The sessions that had to be ended, and the objects that had to be cleared.

        Raises:
            RefusedError: The snapshot does not exist any more, or the database is not one of this run.
        """
        with self._lock:
            self._check(name, "restored")
            self._require(taken)
            self._drop_unreachable()
            session = self._manager.session
            stayed: list[Leftover] = list(session.end_sessions(name))
            original = Name.parse(name)
            assert original is not None
            replaced = name
            if self._resetter is not None and self._bases.get(name) == taken.name:
                replaced, was_reset = self._resetter.reset(name, session)
                if was_reset:
                    self._rename(replaced, original, stayed)
                    self._resetter.renamed(replaced, name)
                    return stayed
            self._bases.pop(name, None)
            # The copy comes first, so that the database stays as it is if there is no room for another one.
            fresh = self._copy_of(taken)
            contents = self._contents_of(taken, fresh)
            if replaced == name:
                aside = self._manager.new_name()
                stayed += session.clear_blockers(name)
                self._rename(name, aside, stayed)
                replaced = str(aside)
            self._rename(str(fresh), original, stayed)
            if self._resetter is not None and contents is not None:
                self._resetter.track(name, Template(taken.name, taken.properties, contents, "", built=False), session)
                self._bases[name] = taken.name
            self._drop(replaced)
            return stayed

    def create(self, taken: TakenSnapshot) -> str:
        """Create another database that equals the snapshot; its name."""
        with self._lock:
            self._require(taken)
            self._check(taken.name, "copied", Kind.SNAPSHOT)
            return str(self._copy_of(taken))

    def drop(self, taken: TakenSnapshot) -> None:
        """Drop a snapshot; does nothing where it was dropped already."""
        with self._lock:
            if self._taken.pop(taken.name, None) is None:
                return
            self._restored.pop(taken.name, None)
            self._contents.pop(taken.name, None)
            for name in [name for name, base in self._bases.items() if base == taken.name]:
                self._forget(name)
            self._drop(taken.name)

    def drop_soon(self, taken: TakenSnapshot) -> None:
        """Have a snapshot dropped with the next call of `take` or `restore`; the garbage collector may call this."""
        self._unreachable.append(taken)

    def release(self, name: str) -> None:
        """Drop the snapshots of database `name`, which is dropped or kept."""
        if not self._taken and not self._bases:
            return
        with self._lock:
            self._forget(name)
            for taken in [taken for taken in self._taken.values() if taken.database == name]:
                self.drop(taken)

    # -- steps ----------------------------------------------------------------------------------------------

    def _check(self, name: str, action: str, kind: Kind = Kind.CLONE) -> None:
        self._manager.ensure_ready()
        parsed = Name.parse(name)
        exists = self._manager.session.call(databases.check_ownership, name, action)
        if not exists or parsed is None or parsed.kind is not kind or parsed.owner != self._manager.run:
            raise RefusedError(
                f'database "{name}" is not {action}: it is not one of this run.', code="foreign-database"
            )

    def _require(self, taken: TakenSnapshot) -> None:
        if self._taken.get(taken.name) is not taken:
            raise RefusedError(
                f'the snapshot of database "{taken.database}" does not exist any more: a snapshot is dropped with its '
                "database, or by its drop().\nTake another one: db.snapshot()",
                code="snapshot-gone",
            )

    def _copy_of(self, taken: TakenSnapshot) -> Name:
        return self._manager.copy(Template(taken.name, taken.properties, None, "", built=False))

    def _contents_of(self, taken: TakenSnapshot, fresh: Name) -> TemplateContents | None:
        """The contents of a snapshot that is restored for the second time; None where restores are copies.

        Args:
            taken: The snapshot.
            fresh: A copy of it, to which no session is connected.
        """
        self._restored[taken.name] = times = self._restored.get(taken.name, 0) + 1
        info = self._manager.session.server_info
        if times == 1 or self._engine is None or self._resetter is None or not self._resetter.is_supported:
            return None
        if not info.superuser:
            return None  # an event trigger for logins could write to the copy
        if taken.name not in self._contents:
            settings = NO_EVENT_TRIGGERS if info.version >= 170000 else ""
            try:
                with self._engine(str(fresh), settings=settings).connect() as connection:
                    execute(connection, "SET search_path = pg_catalog")
                    self._contents[taken.name] = read_contents(connection)
            except SQLAlchemyError as error:
                self._contents[taken.name] = None
                _log.info("restores of %s are copies: %s", taken.name, error)
            self._manager.session.end_sessions(str(fresh))  # a backend outlives its connection for a moment
        return self._contents[taken.name]

    def _rename(self, name: str, new: Name, stayed: list[Leftover]) -> None:
        session = self._manager.session

        def rename() -> None:
            try:
                session.call(databases.rename, name, new)
            except DBAPIError as error:
                # After a lost connection the rename is repeated, and fails if the first one has succeeded.
                if driver_errors.sqlstate(error) != "3D000" or not session.call(databases.exists, str(new)):
                    raise

        self._retrying(name, stayed, rename)

    def _retrying(self, name: str, stayed: list[Leftover], work: Callable[[], T]) -> T:
        """Call `work`, and end the sessions on database `name` before; again, if one has connected meanwhile."""
        session = self._manager.session
        for attempt in range(_ATTEMPTS):
            stayed += session.end_sessions(name, 0)
            try:
                return work()
            except DBAPIError as error:
                if attempt == _ATTEMPTS - 1 or driver_errors.sqlstate(error) != "55006":
                    raise
        raise AssertionError("unreachable")

    def _forget(self, name: str) -> None:
        self._bases.pop(name, None)
        if self._resetter is not None:
            self._resetter.forget(name)

    def _drop_unreachable(self) -> None:
        while self._unreachable:
            self.drop(self._unreachable.popleft())

    def _drop(self, name: str) -> None:
        if self._discard(name):
            return
        try:
            self._manager.drop(name)
        except (ElefastError, SQLAlchemyError) as error:
            # The end of the run, or the sweep of the next one, tries again.
            _log.info("left %s to a later sweep: %s", name, error)

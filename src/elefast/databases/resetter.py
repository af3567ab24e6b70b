"""Resets databases after their tests to what their template made, where it can prove that the result is the same.

A reset takes a fifth of the time of a drop and a new copy. What is proved, and how, is in `elefast.postgres.reset`.
A reset database gets another name, so a thread of an earlier test that still uses the old one finds no database.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from elefast.databases.histogram import Histogram
from elefast.databases.manager import DatabaseManager
from elefast.databases.preconnect import Preconnector
from elefast.postgres import contents, databases, driver_errors, reset
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.contents import TemplateContents
from elefast.postgres.drop_blockers import find_blockers
from elefast.postgres.names import Name
from elefast.postgres.reset import DatabaseState, Relation
from elefast.postgres.server import NO_EVENT_TRIGGERS
from elefast.postgres.sql import execute
from elefast.runtime import clock
from elefast.templates.store import Template

__all__ = ["DatabaseResetter"]

_log = logging.getLogger("elefast")

AUDITS = 0.02
"""The share of the time that may go into audits. Each takes milliseconds, so slow tests are all audited."""

LAST_AUDITS = 1.0
"""Seconds that the audits at the end of a run may take; databases that they do not reach are dropped."""

MOST = 100
"""How often one database is reset. A new one now and then costs little, and ends whatever might have added up."""

# Statements of a reset take milliseconds, and no other session holds a lock there.
_SETTINGS = {
    "search_path": "pg_catalog",
    "default_transaction_read_only": "off",
    "statement_timeout": "'10s'",
    "lock_timeout": "'10s'",
}


class _Known(NamedTuple):
    """A database as its template made it."""

    state: DatabaseState
    contents: TemplateContents | None
    """What its template has in it; None where that cannot be known."""
    template: str
    """The name of its template; empty for PostgreSQL's own."""
    times: int = 0
    """How often it was reset."""
    audited: bool = False
    """It was audited after the last reset."""


class DatabaseResetter:
    """Resets the databases of one manager.

    Args:
        manager: Makes and drops them.
        engine: Makes a maintenance engine to a database, whose sessions have ``settings``.
        connects: What the engines of tests connect with that may hold settings of their sessions.
    """

    def __init__(
        self, manager: DatabaseManager, engine: Callable[..., Engine], connects: Iterable[object] = ()
    ) -> None:
        self.resets = Histogram()
        """How long each reset took."""
        self.deceived = False
        """Whether an audit has found what PostgreSQL did not count, so that its counts prove nothing in this run."""
        self._manager = manager
        self._uncounted = any(map(_switches_counting, connects))
        self._known: dict[str, _Known] = {}
        self._relations: dict[str, Mapping[int, Relation]] = {}
        """What there is in the copies of a template, by its name."""
        self._engine = engine
        self._audit_cost, self._audit_ended = 0.0, -math.inf

    @property
    def works(self) -> bool:
        """Whether the server counts what sessions write, and tells it reliably."""
        # libpq passes PGOPTIONS to the server in each session of this process and of those that it starts.
        uncounted = self._uncounted or _switches_counting(os.environ.get("PGOPTIONS", ""))
        server_info = self._manager.session.server_info
        return server_info.version >= reset.MINIMUM_VERSION and not uncounted and not self.deceived

    def track(self, name: str, template: Template | None, session: MaintenanceSession) -> None:
        """Remember how database `name` is, a new copy of `template` that no test has had."""
        if self.works and (found := session.call(reset.read_state, name)) is not None:
            has, source = (TemplateContents(), "") if template is None else (template.contents, template.name)
            self._known[name] = _Known(found, has, source)

    def forget(self, name: str) -> None:
        """Stop tracking database `name`, which will not be reset."""
        self._known.pop(name, None)

    def reset(self, name: str, session: MaintenanceSession, connector: Preconnector | None = None) -> tuple[str, bool]:
        """Reset database `name`, to which no session is connected.

        Args:
            name: The name of the database.
            session: The session to do it over.
            connector: Connects to it, and stays connected for the next test; None for a connection that is closed.

        Returns:
            The name that it has now, and whether it is as its template made it. If not, the caller drops it.
        """
        known = self._known.pop(name, None)
        if known is None or known.times >= MOST or not self.works:
            return name, False
        start = clock.now()
        new = self._manager.new_name()
        try:
            reason = self._try(name, new, known, session, connector)
        except Exception as error:  # also what a driver raises by itself, outside of a statement
            reason = driver_errors.driver_message(error)
        if not reason:
            self.resets.add(clock.now() - start)
            return str(new), True
        _log.debug("%s is not reset: %s", name, reason)
        if connector is not None:
            connector.discard(str(new))
        return str(new) if session.call(databases.exists, str(new)) else name, False

    def _try(
        self, name: str, new: Name, known: _Known, session: MaintenanceSession, connector: Preconnector | None
    ) -> str:
        """Reset it, and remember how it is then; the reason against it, where it was not possible."""
        if session.server_info.allows_prepared_transactions and session.call(find_blockers, name):
            return "it has a prepared transaction"  # for which PostgreSQL would wait five seconds
        # From here on no earlier user finds it, and a connection that was being made has come or failed.
        session.call(databases.rename, name, new)
        now = session.call(reset.read_state, str(new))
        if now is None:
            return "it is gone"
        if reason := now.difference_from(known.state):
            return reason
        login = known.contents is not None and known.contents.login_trigger
        if login:
            # A session that is handed to the next test must begin, and fire the trigger, after the reset.
            connector = None
        with self._inside(str(new), connector, login=login) as (connection, stays):
            execute(connection, "; ".join(f"SET {setting} = {value}" for setting, value in _SETTINGS.items()))
            relations = self._relations.get(known.template) or reset.read_relations(connection, session.server_info)
            activity = reset.read_activity(connection, relations)
            if reason := reset.reason_against(activity, known.state, now, known.contents, session.server_info):
                return reason
            # No catalog was written to, so it is the same in all of them.
            self._relations.setdefault(known.template, relations)
            counts = (
                reset.reset(connection, activity, known.contents, session.server_info) if activity.used else now.counts
            )
            if counts is None:
                return "something in it takes more room than before"
            audited = session.server_info.superuser and self._audit_is_due
            if audited and (difference := self._audit(connection, known)):
                self.deceived = True
                return difference
            # What a sequence was set to, it would tell the session as its own last value.
            execute(connection, "; ".join([*(f"RESET {setting}" for setting in _SETTINGS), "DISCARD SEQUENCES"]))
        if not stays and session.lingering(str(new)):
            return "another session is connected to it"
        state = now._replace(counts=counts, next_xid=known.state.next_xid)
        self._known[str(new)] = known._replace(state=state, times=known.times + 1, audited=audited)
        return ""

    def proven(self, names: Sequence[str], session: MaintenanceSession) -> list[str]:
        """Those of the idle databases `names` that an audit finds to be as their template made them.

        The next run does not know their history, so it needs more than the counts.
        """
        found: list[str] = []
        deadline = clock.now() + LAST_AUDITS
        for name in names:
            known = self._known.get(name)
            if known is not None and known.times and not known.audited:
                if not session.server_info.superuser or clock.now() >= deadline or session.lingering(name):
                    continue
                login = known.contents is not None and known.contents.login_trigger
                with self._inside(name, None, login=login) as (connection, _):
                    execute(connection, "SET search_path = pg_catalog")
                    difference = self._audit(connection, known)
                if difference:
                    _log.warning("%s is dropped: %s", name, difference)
                    self.deceived = True
                if difference or session.lingering(name):
                    continue
            found.append(name)
        return found

    @property
    def _audit_is_due(self) -> bool:
        return clock.now() - self._audit_ended >= self._audit_cost / AUDITS

    def _audit(self, connection: Connection, known: _Known) -> str:
        """Read all of the database of `connection`; what is other than in its template, in words."""
        start = clock.now()
        # Otherwise PostgreSQL would count the reading of each sequence, by which the reset detects their use.
        execute(connection, "SET track_counts = off")
        difference = contents.audit(connection, known.contents or TemplateContents(), known.state.next_xid)
        execute(connection, "RESET track_counts")
        self._audit_ended = clock.now()
        self._audit_cost = self._audit_ended - start
        return difference

    @contextmanager
    def _inside(
        self, name: str, connector: Preconnector | None, *, login: bool = False
    ) -> Generator[tuple[Connection, bool]]:
        """A connection to database `name`, and whether it stays open afterwards."""
        if connector is not None:
            with connector.lend(name) as lent:
                if lent is not None:
                    yield lent, True
                    return
        with self._engine(name, settings=NO_EVENT_TRIGGERS if login else "").connect() as connection:
            yield connection, False


def _switches_counting(settings: object) -> bool:
    """Whether `settings` of sessions, in any form, mention ``track_counts``; an option may spell it with a hyphen."""
    return re.search("track[_-]counts", str(settings), re.IGNORECASE) is not None

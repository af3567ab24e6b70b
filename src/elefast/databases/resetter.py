"""Puts databases back as their template made them, after the tests that had them, where that can be proved.

It takes a fifth of what a new copy takes, and a drop. What is proved, and how, is in `elefast.postgres.reset`.
A database that comes back has another name, so who still knows the old one, such as a thread of an earlier test,
finds nothing there. It knows no tests and no pool.
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

from elefast.databases.histogram import Samples
from elefast.databases.manager import Control
from elefast.databases.preconnect import Ahead
from elefast.postgres import contents, databases, driver_errors, reset
from elefast.postgres.connections.maintenance_session import Session
from elefast.postgres.contents import Contents
from elefast.postgres.drop_blockers import blockers
from elefast.postgres.names import Name
from elefast.postgres.reset import Outside, Relation
from elefast.postgres.server import NO_EVENT_TRIGGERS
from elefast.postgres.sql import execute
from elefast.runtime import clock
from elefast.templates.store import Template

__all__ = ["Restorer"]

_log = logging.getLogger("elefast")

AUDITS = 0.02
"""The share of the time that may go into audits. Each takes milliseconds, so slow tests are all audited."""

LAST_AUDITS = 1.0
"""Seconds that the audits at the end of a run may take; databases that they do not reach are dropped."""

MOST = 100
"""So often is one database put back. A new one now and then costs nothing, and takes with it whatever might add up."""

# What is done inside takes milliseconds, and nobody else is there to wait for.
_SETTINGS = {
    "search_path": "pg_catalog",
    "default_transaction_read_only": "off",
    "statement_timeout": "'10s'",
    "lock_timeout": "'10s'",
}


class _Known(NamedTuple):
    """A database as its template made it."""

    outside: Outside
    contents: Contents | None
    """What its template has in it; None where that cannot be known."""
    template: str
    """The name of its template; empty for PostgreSQL's own."""
    times: int = 0
    """How often it was reset."""
    audited: bool = False
    """It was audited after the last reset."""


class Restorer:
    """Puts the databases of one control back.

    Args:
        control: Makes and drops them.
        engine: Makes a maintenance engine to a database, whose sessions have ``settings``.
        connects: What the engines of tests connect with that may hold settings of their sessions.
    """

    def __init__(self, control: Control, engine: Callable[..., Engine], connects: Iterable[object] = ()) -> None:
        self.restored = Samples()
        """What it took to put each back."""
        self.deceived = False
        """An audit has found what PostgreSQL did not count, so its counts prove nothing in this run."""
        self._control = control
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
        facts = self._control.session.facts
        return facts.version >= reset.FIRST_VERSION and not uncounted and not self.deceived

    def note(self, name: str, template: Template | None, session: Session) -> None:
        """Remember how database `name` is, a copy of `template` that has just been made and that nobody has had."""
        if self.works and (found := session.call(reset.outside, name)) is not None:
            has, source = (Contents(), "") if template is None else (template.contents, template.name)
            self._known[name] = _Known(found, has, source)

    def forget(self, name: str) -> None:
        """Database `name` will not come back."""
        self._known.pop(name, None)

    def restore(self, name: str, session: Session, ahead: Ahead | None = None) -> tuple[str, bool]:
        """Put database `name` back, to which nobody is connected.

        Args:
            name: Its name.
            session: To do it through.
            ahead: Connects to it, and stays connected for who has it next; None where nobody wants that now.

        Returns:
            The name that it has now, and whether it is as its template made it. If not, it is to be dropped.
        """
        known = self._known.pop(name, None)
        if known is None or known.times >= MOST or not self.works:
            return name, False
        start = clock.now()
        new = self._control.new_name()
        try:
            why_not = self._restore(name, new, known, session, ahead)
        except Exception as error:  # also what a driver raises by itself, outside of a statement
            why_not = driver_errors.cause(error)
        if not why_not:
            self.restored.add(clock.now() - start)
            return str(new), True
        _log.debug("%s is not put back: %s", name, why_not)
        if ahead is not None:
            ahead.discard(str(new))
        return str(new) if session.call(databases.exists, str(new)) else name, False

    def _restore(self, name: str, new: Name, known: _Known, session: Session, ahead: Ahead | None) -> str:
        """Put it back, and note how it is then; why not, where that was not possible."""
        if session.facts.prepares and session.call(blockers, name):
            return "it has a prepared transaction"  # for which PostgreSQL would wait five seconds
        # From here on nobody finds it who has had it; and who was just about to connect has come and gone.
        session.call(databases.rename, name, new)
        now = session.call(reset.outside, str(new))
        if now is None:
            return "it is gone"
        if why_not := now.why_other(known.outside):
            return why_not
        login = known.contents is not None and known.contents.login
        if login:
            # A session that is handed to the next test must begin, and fire the trigger, after the reset.
            ahead = None
        with self._inside(str(new), ahead, login=login) as (connection, stays):
            execute(connection, "; ".join(f"SET {setting} = {value}" for setting, value in _SETTINGS.items()))
            relations = self._relations.get(known.template) or reset.relations(connection, session.facts)
            seen = reset.changes(connection, relations)
            if why_not := reset.why_not(seen, known.outside, now, known.contents, session.facts):
                return why_not
            # No catalog was written to, so it is the same in all of them.
            self._relations.setdefault(known.template, relations)
            counts = reset.undo(connection, seen, known.contents, session.facts) if seen.used else now.counts
            if counts is None:
                return "something in it takes more room than before"
            audited = session.facts.superuser and self._audit_is_due
            if audited and (difference := self._audit(connection, known)):
                self.deceived = True
                return difference
            # What a sequence was set to, it would tell the session as its own last value.
            execute(connection, "; ".join([*(f"RESET {setting}" for setting in _SETTINGS), "DISCARD SEQUENCES"]))
        if not stays and session.lingering(str(new)):
            return "somebody is connected to it"
        outside = now._replace(counts=counts, horizon=known.outside.horizon)
        self._known[str(new)] = known._replace(outside=outside, times=known.times + 1, audited=audited)
        return ""

    def proven(self, names: Sequence[str], session: Session) -> list[str]:
        """Those of the databases `names`, which are ready, that an audit finds to be as their template made them.

        The next run does not know their history, so it needs more than the counts.
        """
        found: list[str] = []
        deadline = clock.now() + LAST_AUDITS
        for name in names:
            known = self._known.get(name)
            if known is not None and known.times and not known.audited:
                if not session.facts.superuser or clock.now() >= deadline or session.lingering(name):
                    continue
                login = known.contents is not None and known.contents.login
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
        difference = contents.audit(connection, known.contents or Contents(), known.outside.horizon)
        execute(connection, "RESET track_counts")
        self._audit_ended = clock.now()
        self._audit_cost = self._audit_ended - start
        return difference

    @contextmanager
    def _inside(self, name: str, ahead: Ahead | None, *, login: bool = False) -> Generator[tuple[Connection, bool]]:
        """A connection to database `name`, and whether it stays when we are done."""
        if ahead is not None:
            with ahead.lend(name) as lent:
                if lent is not None:
                    yield lent, True
                    return
        with self._engine(name, settings=NO_EVENT_TRIGGERS if login else "").connect() as connection:
            yield connection, False


def _switches_counting(settings: object) -> bool:
    """Whether `settings` of sessions, in any form, mention ``track_counts``; an option may spell it with a hyphen."""
    return re.search("track[_-]counts", str(settings), re.IGNORECASE) is not None

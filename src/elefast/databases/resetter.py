"""Resets databases after their tests to the state of their template, where it can prove that the result is the same.

A reset takes a fifth of the time of a drop and a new copy. What is proved, and how, is in `elefast.postgres.reset`.
A reset database gets another name, so a thread of an earlier test that still uses the old one finds no database.
Where the session of the test is still open (`elefast.postgres.connections.retained_session`), the reset takes place
over it, and it stays open for the next test, if it is as a new one.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from elefast.databases.histogram import Histogram
from elefast.databases.manager import DatabaseManager
from elefast.databases.preconnect import Preconnector
from elefast.postgres import contents, databases, driver_errors, reset, seeded_tables
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.connections.retained_session import RetainedSession
from elefast.postgres.contents import TemplateContents
from elefast.postgres.drop_blockers import find_blockers
from elefast.postgres.names import Name
from elefast.postgres.reset import Counters, DatabaseActivity, DatabaseState, Relation, ResetPlan, WriteCounts
from elefast.postgres.seeded_tables import SeededTable
from elefast.postgres.server import NO_EVENT_TRIGGERS, ServerInfo
from elefast.postgres.sql import execute, rows
from elefast.runtime import clock
from elefast.templates.store import Template

__all__ = ["DatabaseResetter"]

_log = logging.getLogger("elefast")

AUDITS = 0.02
"""The share of the time that audits may take. Each takes milliseconds, so every reset of slow tests is audited."""

LAST_AUDITS = 1.0
"""Seconds that the audits at the end of a run may take; databases that they do not reach are dropped."""

MOST_RESETS = 100
"""How often one database is reset. A new one now and then costs little, and removes effects that may have added up."""

# The statements of a reset take milliseconds, and no other session holds a lock in the database.
_SETTINGS = {
    "search_path": "pg_catalog",
    "default_transaction_read_only": "off",
    "statement_timeout": "'10s'",
    "lock_timeout": "'10s'",
}


_SET = [f"SET {setting} = {value}" for setting, value in _SETTINGS.items()]
# Else currval() would give the next test the value that a sequence was set to.
_RESET = [*(f"RESET {setting}" for setting in _SETTINGS), "DISCARD SEQUENCES"]

_COPY_COST = 0.02
"""Seconds for a new copy and a drop, as long as none was measured."""


class _Known(NamedTuple):
    """What is known of a database that can be reset."""

    state: DatabaseState
    contents: TemplateContents | None
    """The contents of its template; None where they are unknown."""
    template: str
    """The name of its template; empty for PostgreSQL's own."""
    times: int = 0
    """How often it was reset."""
    audited: bool = False
    """Whether it was audited after the last reset."""
    counters: Counters = MappingProxyType({})
    """The statistics of its relations after the last reset."""
    refilled: Mapping[int, SeededTable] = MappingProxyType({})
    """The tables whose rows are newer than the copy, because a reset has refilled them."""


class DatabaseResetter:
    """Resets the databases of one manager.

    Args:
        manager: Makes and drops them.
        engine: Makes a maintenance engine to a database, whose sessions have ``settings``.
        connect_options: Options of the tests' engines, which may contain settings of their sessions.
        tests_have_role: Whether tests connect as another role than the server's user, which alone may reset.
    """

    def __init__(
        self,
        manager: DatabaseManager,
        engine: Callable[..., Engine],
        connect_options: Iterable[object] = (),
        *,
        tests_have_role: bool = False,
    ) -> None:
        self._tests_have_role = tests_have_role
        self.resets = Histogram()
        """How long each reset took."""
        self.counts_unreliable = False
        """Whether an audit found a change that PostgreSQL had not counted. Then its counts prove nothing."""
        self._manager = manager
        self._uncounted = any(map(_switches_counting, connect_options))
        self._known: dict[str, _Known] = {}
        self._relations: dict[str, Mapping[int, Relation]] = {}
        """The tables and sequences in the copies of a template, by the name of the template."""
        self._seeded: dict[str, dict[int, SeededTable]] = {}
        """Tables with rows that tests have written to, by template and oid."""
        self._wanted: dict[str, dict[int, str]] = {}
        """Names of those that are to be read from the next copy of a template."""
        self._compared: set[tuple[str, int]] = set()
        """Those whose refill was compared with the template."""
        self._engine = engine
        self._audit_cost, self._audit_ended = 0.0, -math.inf

    @property
    def is_supported(self) -> bool:
        """Whether the server counts the writes of sessions reliably."""
        # libpq sends PGOPTIONS to the server for each session of this process and of its child processes.
        uncounted = self._uncounted or _switches_counting(os.environ.get("PGOPTIONS", ""))
        server_info = self._manager.session.server_info
        return server_info.version >= reset.MINIMUM_VERSION and not uncounted and not self.counts_unreliable

    def track(self, name: str, template: Template | None, session: MaintenanceSession) -> None:
        """Record the state of database `name`, a new copy of `template` that no test has used."""
        if not self.is_supported:
            return
        if template is not None and (wanted := self._wanted.pop(template.name, None)):
            self._capture(name, template, wanted)
            session.remaining_sessions(name)
        if (found := session.call(reset.read_state, name)) is not None:
            held, source = (TemplateContents(), "") if template is None else (template.contents, template.name)
            self._known[name] = _Known(found, held, source)

    def _capture(self, name: str, template: Template, wanted: Mapping[int, str]) -> None:
        """Read the tables `wanted`, to which a test has written, from database `name`, a new copy of `template`."""
        tables = self._seeded.setdefault(template.name, {})
        login = template.contents is not None and template.contents.login_trigger
        try:
            with self._engine(name, settings=NO_EVENT_TRIGGERS if login else "").connect() as connection:
                execute(connection, "SET search_path = pg_catalog")
                execute(connection, "SET track_counts = off")
                for oid, table in wanted.items():
                    tables[oid] = seeded_tables.capture(connection, oid, table)
        except (SQLAlchemyError, psycopg.Error) as error:
            # The copy itself is well, so a test gets it; databases whose test writes to these tables are dropped.
            _log.info("did not read tables of %s: %s", name, driver_errors.driver_message(error))
            for oid, table in wanted.items():
                tables.setdefault(oid, seeded_tables.unreadable(oid, table))

    def renamed(self, name: str, new: str) -> None:
        """Note that database `name` is called `new` from now on."""
        if (known := self._known.pop(name, None)) is not None:
            self._known[new] = known

    def forget(self, name: str) -> None:
        """Stop tracking database `name`, which will not be reset."""
        self._known.pop(name, None)

    def reset(
        self,
        name: str,
        session: MaintenanceSession,
        preconnector: Preconnector | None = None,
        retained: RetainedSession | None = None,
    ) -> tuple[str, bool]:
        """Reset database `name`, to which no session but `retained` is connected.

        Args:
            name: The name of the database.
            session: The session to use.
            preconnector: Connects to it, and keeps the connection for the next test; None if that needs none.
            retained: The session that the test had; None where it is closed.

        Returns:
            Its new name, and whether it was reset. If not, the caller drops it.
        """
        known = self._known.pop(name, None)
        if known is None or known.times >= MOST_RESETS or not self.is_supported:
            return name, False
        start = clock.now()
        new = self._manager.new_name()
        try:
            if retained is None:
                reason = self._try(name, new, known, session, preconnector)
            else:
                reason = self._try_over(retained, name, new, known, session, preconnector)
        except Exception as error:  # drivers also raise errors that SQLAlchemy does not wrap
            reason = driver_errors.driver_message(error)
        if not reason:
            self.resets.add(clock.now() - start)
            return str(new), True
        _log.debug("%s is not reset: %s", name, reason)
        if preconnector is not None:
            preconnector.discard(str(new))
        return str(new) if session.call(databases.exists, str(new)) else name, False

    def _try(
        self, name: str, new: Name, known: _Known, session: MaintenanceSession, preconnector: Preconnector | None
    ) -> str:
        """Reset a database without sessions; the reason why that was not possible, or an empty string."""
        if session.server_info.allows_prepared_transactions and session.call(find_blockers, name):
            return "it has a prepared transaction"  # which would make PostgreSQL wait for five seconds
        # After the rename no earlier user finds it, and each connection attempt has succeeded or failed.
        session.call(databases.rename, name, new)
        now = session.call(reset.read_state, str(new))
        if now is None:
            return "it is gone"
        if reason := now.difference_from(known.state):
            return reason
        login = known.contents is not None and known.contents.login_trigger
        if login:
            # The session of the next test must begin after the reset, and fire the login trigger.
            preconnector = None
        # The connection of the next test has the rights of its role.
        shared = None if self._tests_have_role else preconnector
        with self._connection_to(str(new), shared, login=login) as (connection, stays):
            execute(connection, "; ".join(_SET))
            relations = self._relations.get(known.template) or reset.read_relations(connection, session.server_info)
            found = rows(connection, reset.activity_query(relations))
            activity = reset.activity_of(found, relations, known.counters)
            if reason := self._reason_against(activity, now, known, session.server_info):
                return reason
            # The catalogs are unchanged, so this holds for all copies of the template.
            self._relations.setdefault(known.template, relations)
            plan = self._plan(activity, known, session.server_info)
            driver = connection.connection.driver_connection
            if plan.refilled and not isinstance(driver, psycopg.Connection):
                return "its driver cannot refill tables"
            for statement in chain.from_iterable(plan.empties):
                execute(connection, statement)
            if plan.refilled:
                seeded_tables.refill(cast("psycopg.Connection[Any]", driver), plan.refilled)
            *finishes, [query] = plan.finishes
            for statement in chain.from_iterable(finishes):
                execute(connection, statement)
            counted = reset.counts_after_reset(rows(connection, query), activity, now.counts)
            if counted is None:
                return self._differs(plan, known)
            audits = session.server_info.superuser and self._audit_is_due
            if audits and (difference := self._audit(connection, known, plan)):
                return difference
            execute(connection, "; ".join(_RESET))
        if plan.pruned and preconnector is not None:
            preconnector.discard(str(new))
            stays = False
        if not stays and session.remaining_sessions(str(new)):
            return "another session is connected to it"
        if preconnector is not None and self._tests_have_role:
            preconnector.prepare(str(new), preconnector.reserve(str(new)))
        self._note(str(new), known, now, plan, *counted, audited=audits)
        return ""

    def _try_over(
        self,
        retained: RetainedSession,
        name: str,
        new: Name,
        known: _Known,
        session: MaintenanceSession,
        preconnector: Preconnector | None,
    ) -> str:
        """Like `_try`, over the session `retained`, which is the only one on the database; in two round trips."""
        relations = self._relations.get(known.template)
        if relations is None:
            return "what it consists of is not known yet"
        if session.server_info.allows_prepared_transactions and session.call(find_blockers, name):
            return "it has a prepared transaction"
        rename, *look = databases.rename_own_statements(known.state.oid, name, new)
        *_, renamed, connecting, connected, _, found = retained.run(
            [
                *retained.clean_statements(),
                [rename],
                [*look, reset.FLUSH_COUNTERS],
                [reset.activity_query(relations)],
            ]
        )
        if reason := databases.reason_against_rename([renamed, connecting, connected]):
            return reason
        now = session.call(reset.read_state, str(new))
        if now is None:
            return "it is gone"
        if reason := now.difference_from(known.state):
            return reason
        activity = reset.activity_of(found, relations, known.counters)
        if reason := self._reason_against(activity, now, known, session.server_info):
            return reason
        plan = self._plan(activity, known, session.server_info)
        empties = plan.empties
        if plan.refilled:
            retained.run(empties)
            seeded_tables.refill(retained.driver, plan.refilled)
            empties = []
        last = ["DISCARD SEQUENCES", retained.check_query()]
        *_, found, _, checked = retained.run([*empties, *plan.finishes, last])
        counted = reset.counts_after_reset(found, activity, now.counts)
        if counted is None:
            return self._differs(plan, known)
        audits = session.server_info.superuser and self._audit_is_due
        if audits and (difference := self._audit(retained.connection, known, plan)):
            return difference
        self._note(str(new), known, now, plan, *counted, audited=audits)
        if preconnector is not None and not plan.pruned and retained.is_clean(checked):
            preconnector.adopt(str(new), retained)
            return ""
        retained.release()
        return "another session is connected to it" if session.remaining_sessions(str(new)) else ""

    def _reason_against(
        self, activity: DatabaseActivity, now: DatabaseState, known: _Known, server_info: ServerInfo
    ) -> str:
        """The reason against a reset. The next new copy is asked for tables with rows that are not known yet."""
        seeded = self._seeded.get(known.template, {})
        seconds = self._manager.clones.quantile(0.5) + self._manager.drops.quantile(0.5) or _COPY_COST
        reason = reset.reason_against(activity, known.state, now, known.contents, server_info, seeded, seconds)
        if reason and known.contents is not None and server_info.superuser:
            wanted = {
                change.relation.oid: change.relation.name
                for change in activity.tables
                if change.relation.oid in known.contents.filled
                and change.relation.oid not in seeded
                and not change.relation.has_rules_or_triggers
            }
            self._wanted.setdefault(known.template, {}).update(wanted)
        return reason

    def _plan(self, activity: DatabaseActivity, known: _Known, server_info: ServerInfo) -> ResetPlan:
        seeded = self._seeded.get(known.template, {})
        compare = any((known.template, change.relation.oid) not in self._compared for change in activity.tables)
        return reset.plan_reset(
            activity, known.contents, server_info, seeded, known.state.next_xid, compare=compare and bool(seeded)
        )

    def _differs(self, plan: ResetPlan, known: _Known) -> str:
        """Give up tables that did not come back as they are in the template."""
        for table in plan.refilled:
            if (known.template, table.oid) not in self._compared:
                self._seeded[known.template][table.oid] = table._replace(data=None)
        return "a table in it differs from the template, or takes more room than before"

    def _note(
        self,
        name: str,
        known: _Known,
        now: DatabaseState,
        plan: ResetPlan,
        counts: WriteCounts,
        counters: Counters,
        *,
        audited: bool,
    ) -> None:
        """Remember the state of database `name` after a reset."""
        refilled = {table.oid: table for table in plan.refilled}
        self._compared |= {(known.template, oid) for oid in refilled}
        self._known[name] = known._replace(
            state=now._replace(counts=counts, next_xid=known.state.next_xid),
            times=known.times + 1,
            audited=audited,
            counters=counters,
            refilled={**known.refilled, **refilled},
        )

    def verified(self, names: Sequence[str], session: MaintenanceSession) -> list[str]:
        """The idle databases of `names` that are equal to their template by an audit, or were never used.

        The next run does not know their history, so the counts are not enough for it.
        """
        found: list[str] = []
        deadline = clock.now() + LAST_AUDITS
        for name in names:
            known = self._known.get(name)
            if known is not None and known.times:
                if not session.server_info.superuser or clock.now() >= deadline or session.remaining_sessions(name):
                    continue
                login = known.contents is not None and known.contents.login_trigger
                with self._connection_to(name, None, login=login) as (connection, _):
                    execute(connection, "SET search_path = pg_catalog")
                    difference = "" if known.audited else self._audit(connection, known)
                    # The next run takes a database for unused where its counters are zero.
                    execute(connection, "SELECT pg_stat_reset()")
                if difference:
                    _log.warning("%s is dropped: %s", name, difference)
                if difference or session.remaining_sessions(name):
                    continue
            found.append(name)
        return found

    @property
    def _audit_is_due(self) -> bool:
        return clock.now() - self._audit_ended >= self._audit_cost / AUDITS

    def _audit(self, connection: Connection, known: _Known, plan: ResetPlan | None = None) -> str:
        """Read the whole database of `connection`; its difference from the template in words, or an empty string."""
        refilled = {**known.refilled, **{table.oid: table for table in (plan.refilled if plan is not None else ())}}
        start = clock.now()
        # Else PostgreSQL would count the reading of each sequence, and the reset would take the sequence for used.
        execute(connection, "SET track_counts = off")
        difference = contents.audit(
            connection, known.contents or TemplateContents(), known.state.next_xid, list(refilled.values())
        )
        execute(connection, "RESET track_counts")
        self._audit_ended = clock.now()
        self._audit_cost = self._audit_ended - start
        if difference:
            self.counts_unreliable = True
        return difference

    @contextmanager
    def _connection_to(
        self, name: str, preconnector: Preconnector | None, *, login: bool = False
    ) -> Generator[tuple[Connection, bool]]:
        """Connect to database `name`; the connection, and whether it stays open afterwards."""
        if preconnector is not None:
            with preconnector.borrow(name) as borrowed:
                if borrowed is not None:
                    yield borrowed, True
                    return
        with self._engine(name, settings=NO_EVENT_TRIGGERS if login else "").connect() as connection:
            yield connection, False


def _switches_counting(settings: object) -> bool:
    """Whether `settings` of sessions, in any form, mention ``track_counts``, with an underscore or a hyphen."""
    return re.search("track[_-]counts", str(settings), re.IGNORECASE) is not None

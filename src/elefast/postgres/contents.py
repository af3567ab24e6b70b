"""The state of a template's tables and sequences, by which a copy of the template can be reset and audited.

It is read once, when the template is built, and stored in the template's comment. An audit reads all rows of a copy.
It finds rows of tables and catalogs that are newer than the copy or missing, whether or not PostgreSQL counted them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

from sqlalchemy import Connection

from elefast.postgres.seeded_tables import SeededTable, difference
from elefast.postgres.sql import rows

__all__ = ["FIRST_NORMAL_OID", "TemplateContents", "audit", "read_contents"]

FIRST_NORMAL_OID = 16384
"""The lowest oid of objects that users create (FirstNormalObjectId in access/transam.h)."""

_HEAP = 2
"""The oid of the table access method ``heap`` (pg_am.dat)."""

_BATCH_SIZE = 200
"""The number of sequences or tables that one statement reads."""

# Functions that mention track_counts in a SET clause or in their text, and the extension pg_surgery, whose functions
# overwrite rows in place and count nothing.
_UNCOUNTED_WRITERS = f"""
    select 'function ' || oid::regprocedure::text from pg_proc
    where oid >= {FIRST_NORMAL_OID}
      and concat_ws(' ', array_to_string(proconfig, ' '), prosrc, pg_get_function_sqlbody(oid)) ~* 'track_counts'
    union all
    select 'extension ' || extname from pg_extension where extname = 'pg_surgery'
    limit 1
"""


@dataclass(frozen=True, slots=True)
class TemplateContents:
    """The state of a template, as far as it differs from what ``CREATE TABLE`` and ``CREATE SEQUENCE`` leave.

    Copies of the template have the same oids.

    Args:
        filled: The oids of tables with pages, which may have rows.
        advanced: ``(last_value, is_called, log_cnt)`` of sequences that are not at their start, by oid.
        uncounted: A function or extension that can write rows that PostgreSQL does not count; empty without one.
        row_count: The number of rows in all tables and catalogs; None if the role may not read all of them.
        login_trigger: Whether an event trigger fires when a session begins (PostgreSQL 17 and later), and may write.
    """

    filled: frozenset[int] = frozenset()
    advanced: Mapping[int, tuple[int, bool, int]] = field(default_factory=dict[int, tuple[int, bool, int]])
    uncounted: str = ""
    row_count: int | None = None
    login_trigger: bool = False

    def to_json(self) -> dict[str, Any]:
        """The state as values for JSON."""
        return {
            "filled": sorted(self.filled),
            "advanced": [[oid, *state] for oid, state in self.advanced.items()],
            "uncounted": self.uncounted,
            "rows": self.row_count,
            "login": self.login_trigger,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Restore the state from the values of `to_json`."""
        advanced = {oid: (last, called, logged) for oid, last, called, logged in values["advanced"]}
        return cls(frozenset(values["filled"]), advanced, values["uncounted"], values["rows"], values["login"])


def read_contents(connection: Connection) -> TemplateContents | None:
    """The contents of the database of `connection`; None if some of its tables have an access method of an extension.

    PostgreSQL may not count writes to such tables, and ``DELETE`` and ``VACUUM`` may not empty them.
    """
    if rows(connection, "select from pg_class where relkind in ('r', 'm') and relam <> :heap limit 1", heap=_HEAP):
        return None
    filled = rows(
        connection,
        "select oid::bigint from pg_class where relkind = 'r' and oid >= :own and pg_relation_size(oid) > 0",
        own=FIRST_NORMAL_OID,
    )
    uncounted = rows(connection, _UNCOUNTED_WRITERS)
    may_read_all = rows(connection, "select 1 from pg_roles where rolname = current_user and rolsuper")
    login = rows(connection, "select 1 from pg_event_trigger where evtevent = 'login' and evtenabled <> 'D'")
    return TemplateContents(
        frozenset(oid for (oid,) in filled),
        _read_advanced(connection),
        uncounted[0][0] if uncounted else "",
        _count_rows(connection, _tables_with_pages(connection), "0")[0] if may_read_all else None,
        bool(login),
    )


def audit(connection: Connection, contents: TemplateContents, since: int, refilled: Sequence[SeededTable] = ()) -> str:
    """Find changes to a copy of a template, whether or not PostgreSQL counted them.

    It reads all rows of the database, which takes as long as several resets.

    Args:
        connection: A superuser's connection to a copy that, by PostgreSQL's counts, equals its template.
        contents: The contents of the template.
        since: The next transaction id at the time when the copy was made.
        refilled: Tables whose rows are newer, because a reset has refilled them; their contents are compared.

    Returns:
        A description of the difference; empty if there is none.
    """
    with_pages = _tables_with_pages(connection)
    if any(oid >= FIRST_NORMAL_OID and kind == "r" and oid not in contents.filled for oid, _, kind in with_pages):
        return "a table has pages that is empty in the template"
    rewritten = {table.oid for table in refilled}
    older = [table for table in with_pages if table[0] not in rewritten]
    count, newer = _count_rows(connection, older, str(since))
    count += sum(table.row_count for table in refilled if table.oid in rewritten)
    for table in refilled:
        if rows(connection, f"select 1 where {difference(table, contents=True)}"):
            return f"{table.name} differs from the template"
    if newer or contents.row_count not in (None, count):
        return "its rows or its catalogs differ from the template"
    if _positions(_read_advanced(connection)) != _positions(contents.advanced):
        return "its sequences differ from the template"
    return ""


def _positions(advanced: Mapping[int, tuple[int, bool, int]]) -> dict[int, tuple[int, bool]]:
    return {oid: (last, called) for oid, (last, called, _) in advanced.items()}


def _tables_with_pages(connection: Connection) -> list[tuple[int, str, str]]:
    """The oid, name and ``relkind`` of each table and catalog that has pages."""
    found = rows(
        connection,
        """
        select oid::bigint, oid::regclass::text, relkind::text from pg_class
        where relkind in ('r', 'm') and not relisshared and pg_relation_size(oid) > 0
        """,
    )
    return [(oid, name, kind) for oid, name, kind in found]


def _count_rows(connection: Connection, tables: Iterable[tuple[int, str, str]], since: str) -> tuple[int, bool]:
    """The number of rows in `tables`, and whether a transaction from `since` on wrote any of them."""
    count, newer = 0, False
    names = (name for _, name, _ in tables)
    while some := list(islice(names, _BATCH_SIZE)):
        parts = [f"select count(*), min(age(xmin)) <= age('{since}'::xid) from only {name}" for name in some]
        for number, is_newer in rows(connection, " union all ".join(parts)):
            count += number
            newer = newer or bool(is_newer)
    return count, newer


def _read_advanced(connection: Connection) -> dict[int, tuple[int, bool, int]]:
    """`TemplateContents.advanced` of the database of `connection`."""
    found = rows(
        connection,
        """
        select seqrelid::bigint, format('%I.%I', nspname, relname), seqstart
        from pg_sequence join pg_class c on c.oid = seqrelid join pg_namespace n on n.oid = relnamespace
        """,
    )
    starts = {oid: start for oid, _, start in found}
    advanced: dict[int, tuple[int, bool, int]] = {}
    remaining = iter(found)
    while some := list(islice(remaining, _BATCH_SIZE)):
        # The function pg_sequence_last_value() does not distinguish `setval(..., 7, false)` from an unused sequence.
        parts = [f"select {oid}::bigint, last_value, is_called, log_cnt from {name}" for oid, name, _ in some]
        for oid, last, called, logged in rows(connection, " union all ".join(parts)):
            if called or last != starts[oid]:
                advanced[oid] = (last, called, logged)
    return advanced

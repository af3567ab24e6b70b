"""What a template has in its tables and sequences, so that a copy of it can be reset later, and audited.

It is read once, when the template is built, and stands in the template's comment. An audit reads all of a copy, and
finds what no session can hide: rows of tables and catalogs that are newer than the copy, or missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

from sqlalchemy import Connection

from elefast.postgres.sql import rows

__all__ = ["FIRST_NORMAL_OID", "TemplateContents", "audit", "read_contents"]

FIRST_NORMAL_OID = 16384
"""The lowest oid of what is not PostgreSQL's own (FirstNormalObjectId in access/transam.h)."""

_HEAP = 2
"""The oid of the table access method ``heap`` (pg_am.dat)."""

_AT_ONCE = 200
"""So many sequences or tables are read by one statement."""

# A function mentions the setting in its SET clause or in its text. The functions of pg_surgery overwrite rows in place
# and count nothing.
_UNCOUNTED = f"""
    select 'function ' || oid::regprocedure::text from pg_proc
    where oid >= {FIRST_NORMAL_OID}
      and concat_ws(' ', array_to_string(proconfig, ' '), prosrc, pg_get_function_sqlbody(oid)) ~* 'track_counts'
    union all
    select 'extension ' || extname from pg_extension where extname = 'pg_surgery'
    limit 1
"""


@dataclass(frozen=True, slots=True)
class TemplateContents:
    """What is worth remembering of a template: where it is not as ``CREATE TABLE`` and ``CREATE SEQUENCE`` leave it.

    Args:
        filled: The oids of tables that take room, and so may have rows. Copies have the same oids.
        advanced: ``(last_value, is_called, log_cnt)`` of sequences that do not stand at their start, by oid.
        uncounted: A function or an extension that can write without PostgreSQL counting it; empty where there is none.
        rows: How many rows there are in all tables and catalogs; None where the role may not read all of them.
        login: An event trigger fires when a session begins, and may write; from PostgreSQL 17 on.
    """

    filled: frozenset[int] = frozenset()
    advanced: Mapping[int, tuple[int, bool, int]] = field(default_factory=dict[int, tuple[int, bool, int]])
    uncounted: str = ""
    rows: int | None = None
    login: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "filled": sorted(self.filled),
            "advanced": [[oid, *state] for oid, state in self.advanced.items()],
            "uncounted": self.uncounted,
            "rows": self.rows,
            "login": self.login,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave."""
        advanced = {oid: (last, called, logged) for oid, last, called, logged in values["advanced"]}
        return cls(frozenset(values["filled"]), advanced, values["uncounted"], values["rows"], values["login"])


def read_contents(connection: Connection) -> TemplateContents | None:
    """What the database of `connection` has in it; None where some of its tables are not PostgreSQL's own heaps.

    Nobody knows whether what an extension stores is counted, and whether it goes by ``DELETE`` and ``VACUUM``.
    """
    if rows(connection, "select from pg_class where relkind in ('r', 'm') and relam <> :heap limit 1", heap=_HEAP):
        return None
    filled = rows(
        connection,
        "select oid::bigint from pg_class where relkind = 'r' and oid >= :own and pg_relation_size(oid) > 0",
        own=FIRST_NORMAL_OID,
    )
    uncounted = rows(connection, _UNCOUNTED)
    may_read_all = rows(connection, "select 1 from pg_roles where rolname = current_user and rolsuper")
    login = rows(connection, "select 1 from pg_event_trigger where evtevent = 'login' and evtenabled <> 'D'")
    return TemplateContents(
        frozenset(oid for (oid,) in filled),
        _advanced(connection),
        uncounted[0][0] if uncounted else "",
        _count(connection, _with_room(connection), "0")[0] if may_read_all else None,
        bool(login),
    )


def audit(connection: Connection, contents: TemplateContents, since: int) -> str:
    """What was written to a copy of a template since it was made, whether PostgreSQL counted it or not.

    It reads all rows of the database, which takes as long as some resets do.

    Args:
        connection: A superuser's, to a copy that is as its template made it, if PostgreSQL's counts are right.
        contents: What the template has in it.
        since: The first transaction id that was not used yet when the copy was made.

    Returns:
        What differs, in words; empty where nothing does.
    """
    has_room = _with_room(connection)
    if any(oid >= FIRST_NORMAL_OID and kind == "r" and oid not in contents.filled for oid, _, kind in has_room):
        return "a table takes room that was empty in its template"
    count, newer = _count(connection, has_room, str(since))
    if newer or contents.rows not in (None, count):
        return "its rows or its catalogs are other than in its template"
    if _ends(_advanced(connection)) != _ends(contents.advanced):
        return "its sequences are other than in its template"
    return ""


def _ends(advanced: Mapping[int, tuple[int, bool, int]]) -> dict[int, tuple[int, bool]]:
    return {oid: (last, called) for oid, (last, called, _) in advanced.items()}


def _with_room(connection: Connection) -> list[tuple[int, str, str]]:
    """The oid, name and ``relkind`` of all tables and catalogs that have pages."""
    found = rows(
        connection,
        """
        select oid::bigint, oid::regclass::text, relkind::text from pg_class
        where relkind in ('r', 'm') and not relisshared and pg_relation_size(oid) > 0
        """,
    )
    return [(oid, name, kind) for oid, name, kind in found]


def _count(connection: Connection, tables: Iterable[tuple[int, str, str]], since: str) -> tuple[int, bool]:
    """How many rows the tables have in all, and whether a transaction from `since` on wrote any of them."""
    count, newer = 0, False
    names = (name for _, name, _ in tables)
    while some := list(islice(names, _AT_ONCE)):
        parts = [f"select count(*), min(age(xmin)) <= age('{since}'::xid) from only {name}" for name in some]
        for number, is_newer in rows(connection, " union all ".join(parts)):
            count += number
            newer = newer or bool(is_newer)
    return count, newer


def _advanced(connection: Connection) -> dict[int, tuple[int, bool, int]]:
    """What `TemplateContents` has of the sequences that do not stand at their start."""
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
    while some := list(islice(remaining, _AT_ONCE)):
        # The function pg_sequence_last_value() does not tell `setval(..., 7, false)` from a sequence never used.
        parts = [f"select {oid}::bigint, last_value, is_called, log_cnt from {name}" for oid, name, _ in some]
        for oid, last, called, logged in rows(connection, " union all ".join(parts)):
            if called or last != starts[oid]:
                advanced[oid] = (last, called, logged)
    return advanced

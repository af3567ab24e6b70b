"""What a template has in its tables and sequences, so that a copy of it can be put back later.

It is looked at once, when the template is built, and stands in the template's comment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

from sqlalchemy import Connection

from elefast.kernel.sql import rows

__all__ = ["FIRST_OWN", "Contents", "look"]

FIRST_OWN = 16384
"""The lowest oid of what is not PostgreSQL's own (FirstNormalObjectId in access/transam.h)."""

_HEAP = 2
"""The oid of the table access method ``heap`` (pg_am.dat)."""

_AT_ONCE = 200
"""So many sequences are read by one statement."""

# A function mentions the setting in its SET clause or in its text. The functions of pg_surgery overwrite rows in place
# and count nothing.
_UNCOUNTED = f"""
    select 'function ' || oid::regprocedure::text from pg_proc
    where oid >= {FIRST_OWN}
      and concat_ws(' ', array_to_string(proconfig, ' '), prosrc, pg_get_function_sqlbody(oid)) ~* 'track_counts'
    union all
    select 'extension ' || extname from pg_extension where extname = 'pg_surgery'
    limit 1
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is worth remembering of a template: where it is not as ``CREATE TABLE`` and ``CREATE SEQUENCE`` leave it.

    Args:
        filled: The oids of tables that take room, and so may have rows. Copies have the same oids.
        advanced: ``(last_value, is_called)`` of sequences that do not stand at their start, by oid.
        uncounted: A function or an extension that can write without PostgreSQL counting it; empty where there is none.
    """

    filled: frozenset[int] = frozenset()
    advanced: Mapping[int, tuple[int, bool]] = field(default_factory=dict[int, tuple[int, bool]])
    uncounted: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "filled": sorted(self.filled),
            "advanced": [[oid, *state] for oid, state in self.advanced.items()],
            "uncounted": self.uncounted,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave."""
        advanced = {oid: (last, called) for oid, last, called in values["advanced"]}
        return cls(frozenset(values["filled"]), advanced, values["uncounted"])


def look(connection: Connection) -> Contents | None:
    """What the database of `connection` has in it; None where some of its tables are not PostgreSQL's own heaps.

    Nobody knows whether what an extension stores is counted, and whether it goes by ``DELETE`` and ``VACUUM``.
    """
    if rows(connection, "select from pg_class where relkind in ('r', 'm') and relam <> :heap limit 1", heap=_HEAP):
        return None
    filled = rows(
        connection,
        "select oid::bigint from pg_class where relkind = 'r' and oid >= :own and pg_relation_size(oid) > 0",
        own=FIRST_OWN,
    )
    found = rows(
        connection,
        """
        select seqrelid::bigint, format('%I.%I', nspname, relname), seqstart
        from pg_sequence join pg_class c on c.oid = seqrelid join pg_namespace n on n.oid = relnamespace
        """,
    )
    starts = {oid: start for oid, _, start in found}
    advanced: dict[int, tuple[int, bool]] = {}
    remaining = iter(found)
    while some := list(islice(remaining, _AT_ONCE)):
        # The function pg_sequence_last_value() does not tell `setval(..., 7, false)` from a sequence never used.
        parts = [f"select {oid}::bigint, last_value, is_called from {name}" for oid, name, _ in some]
        for oid, last, called in rows(connection, " union all ".join(parts)):
            if called or last != starts[oid]:
                advanced[oid] = (last, called)
    uncounted = rows(connection, _UNCOUNTED)
    return Contents(frozenset(oid for (oid,) in filled), advanced, uncounted[0][0] if uncounted else "")

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


@dataclass(frozen=True, slots=True)
class Contents:
    """What is worth remembering of a template: where it is not as ``CREATE TABLE`` and ``CREATE SEQUENCE`` leave it.

    Args:
        filled: The oids of tables that take room, and so may have rows. Copies have the same oids.
        advanced: ``(last_value, is_called)`` of sequences that do not stand at their start, by oid.
    """

    filled: frozenset[int] = frozenset()
    advanced: Mapping[int, tuple[int, bool]] = field(default_factory=dict[int, tuple[int, bool]])

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"filled": sorted(self.filled), "advanced": [[oid, *state] for oid, state in self.advanced.items()]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave."""
        return cls(frozenset(values["filled"]), {oid: (last, called) for oid, last, called in values["advanced"]})


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
    return Contents(frozenset(oid for (oid,) in filled), advanced)

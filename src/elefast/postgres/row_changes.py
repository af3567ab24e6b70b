"""Compares the rows of two databases that were one: a database now, and its earlier state.

The earlier state is that of a copy (the template), or that of an old snapshot of PostgreSQL in the same database. In
both, a row that was not written has the same place (``ctid``) and the same ``xmin``. So a digest of these shows which
tables differ, and only rows at other places are read. Rows with the same primary key are one row.

All functions take a connection in autocommit mode to one of the databases.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection

from elefast.postgres.contents import FIRST_NORMAL_OID
from elefast.postgres.sql import execute, identifier, literal, rows

__all__ = [
    "Digest",
    "Row",
    "Table",
    "TableChanges",
    "count_rows",
    "differing",
    "hold_state",
    "read_digests",
    "read_tables",
]

Row = Mapping[str, Any]
"""A row by the names of its columns, with values as PostgreSQL writes them in JSON."""

_BATCH_SIZE = 100
"""How many tables, and how many hundreds of rows, one statement reads."""


class Table(NamedTuple):
    """A table of the project.

    Args:
        oid: Its oid, which a copy of the database has as well.
        schema: Its schema.
        name: Its name.
        source: What to read all of its rows from, in SQL.
        key: The columns of its primary key; empty without one.
    """

    oid: int
    schema: str
    name: str
    source: str
    key: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its name, with the schema if that is not ``public``."""
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


class Digest(NamedTuple):
    """How many rows a table has, and a digest of their places and of the transactions that wrote them."""

    row_count: int
    places: str


class TableChanges(NamedTuple):
    """The rows of a table that differ.

    Args:
        inserted: Rows that are new.
        updated: Rows with the same primary key as before, as they were and as they are.
        deleted: Rows that are gone.
        uncounted: Rows that were there before a TRUNCATE, or before the table was written anew, and cannot be read.
    """

    inserted: Sequence[Row]
    updated: Sequence[tuple[Row, Row]]
    deleted: Sequence[Row]
    uncounted: int = 0


# Partitions belong to their table. Tables of extensions are not the project's.
_TABLES = f"""
    select c.oid::bigint, n.nspname, c.relname, c.relkind = 'p',
           (select json_agg(a.attname order by array_position(i.indkey::int2[], a.attnum))::text
            from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey::int2[])
            where i.indrelid = c.oid and i.indisprimary)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't' and c.oid >= {FIRST_NORMAL_OID}
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')
    order by n.nspname, c.relname
"""


def hold_state(connection: Connection) -> None:
    """Begin a transaction that sees the present state of the database until it ends. It locks no table."""
    execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    rows(connection, "select 1")


def read_tables(connection: Connection) -> dict[int, Table]:
    """The tables of the project, by oid."""
    found: dict[int, Table] = {}
    for oid, schema, name, is_partitioned, key in rows(connection, _TABLES):
        only = "" if is_partitioned else "ONLY "
        source = f"{only}{identifier(schema)}.{identifier(name)}"
        found[oid] = Table(oid, schema, name, source, tuple(json.loads(key)) if key else ())
    return found


def count_rows(connection: Connection, tables: Iterable[Table]) -> dict[int, int]:
    """The number of rows of each table, by its oid."""
    found = _for_each(connection, tables, "count(*)")
    return {oid: row_count for oid, row_count in found}  # noqa: C416 - typed


def read_digests(connection: Connection, tables: Iterable[Table]) -> dict[int, Digest]:
    """The digest of each table, by its oid."""
    places = f"coalesce(sum(hashtextextended({_PLACE}, 0)::numeric), 0)::text"
    return {oid: Digest(count, found) for oid, count, found in _for_each(connection, tables, f"count(*), {places}")}


def differing(
    before: Connection, after: Connection, old: Table | None, new: Table | None, *, was: int | None = None
) -> TableChanges:
    """The rows of a table that differ.

    Args:
        before: Sees the earlier state.
        after: Sees the present state.
        old: The table in the earlier state; None where there was none.
        new: The table in the present state; None where there is none.
        was: The number of rows in the earlier state, if `before` may not see them any more.
    """
    old_places = set[str]() if old is None else _places(before, old)
    new_places = set[str]() if new is None else _places(after, new)
    uncounted = max(0, was - len(old_places)) if was is not None else 0
    gone = [] if old is None else _rows_at(before, old, old_places - new_places)
    come = [] if new is None else _rows_at(after, new, new_places - old_places)
    key = new.key if new is not None and old is not None and new.key == old.key else ()
    if not key:
        return _by_contents(gone, come, uncounted)
    before_by_key = {_key_of(row, key): row for row in gone}
    after_by_key = {_key_of(row, key): row for row in come}
    updated = [
        (earlier, row)
        for found, row in after_by_key.items()
        if (earlier := before_by_key.get(found)) is not None and not _are_equal(earlier, row)
    ]
    return TableChanges(
        [row for found, row in after_by_key.items() if found not in before_by_key],
        updated,
        [row for found, row in before_by_key.items() if found not in after_by_key],
        uncounted,
    )


_PLACE = "tableoid::text || ctid::text || xmin::text"


def _places(connection: Connection, table: Table) -> set[str]:
    return {place for (place,) in rows(connection, f"select {_PLACE} from {table.source}")}


def _rows_at(connection: Connection, table: Table, places: set[str]) -> list[Row]:
    """The rows at `places`, in the order of their primary key."""
    found: list[Row] = []
    remaining = iter(sorted(places))
    while some := list(islice(remaining, 100 * _BATCH_SIZE)):
        chosen = ", ".join(map(literal, some))
        query = f"select to_jsonb(t)::text from {table.source} t where {_PLACE} = any(array[{chosen}])"
        found += [json.loads(text) for (text,) in rows(connection, query)]
    return sorted(found, key=lambda row: [_sortable(row.get(name)) for name in table.key])


def _sortable(value: object) -> tuple[bool, float, str]:
    """A value of a key, so that numbers are in their order and other values in that of their text."""
    return (False, float(value), "") if isinstance(value, int | float) else (True, 0.0, str(value))


def _by_contents(gone: Sequence[Row], come: Sequence[Row], uncounted: int) -> TableChanges:
    """The changes of a table without a primary key: each row is what it has in it."""
    earlier, present = Counter(map(_text, gone)), Counter(map(_text, come))
    return TableChanges(
        [json.loads(text) for text in (present - earlier).elements()],
        [],
        [json.loads(text) for text in (earlier - present).elements()],
        uncounted,
    )


def _text(row: Row) -> str:
    return json.dumps(row, sort_keys=True)


def _key_of(row: Row, key: Sequence[str]) -> str:
    return json.dumps([row.get(name) for name in key])


def _are_equal(one: Row, other: Row) -> bool:
    """Whether two rows are equal; a column that only one of them has was added or dropped."""
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def _for_each(connection: Connection, tables: Iterable[Table], what: str) -> Iterator[tuple[Any, ...]]:
    remaining = iter(tables)
    while some := list(islice(remaining, _BATCH_SIZE)):
        parts = [f"select {table.oid}::bigint, {what} from {table.source}" for table in some]
        yield from rows(connection, " union all ".join(parts))

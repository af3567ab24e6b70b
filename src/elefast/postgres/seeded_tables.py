"""Tables that have rows in the template: what they hold, and how to restore it after a test has written to them.

Rows that a test has inserted into a large table are deleted. A small table is emptied and filled again from a binary
``COPY`` of its rows in memory, which takes 0.5 ms for 10 rows and 13 for 1000. The rows come back in the same places
and in the same order, and VACUUM leaves the same statistics. Only the hidden columns that name a transaction
(``xmin``) differ.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection

from elefast.postgres.sql import rows

__all__ = ["REFILLED_AT_MOST", "SeededTable", "capture", "difference", "refill", "unreadable"]

_log = logging.getLogger("elefast")

REFILLED_AT_MOST = 1000
"""The number of rows up to which a table is refilled. With more of them, a new copy of the database takes less time."""

_MAX_BYTES = 1_000_000
"""The size of the rows in memory up to which a table is refilled."""

# The places and contents of all rows. The columns of a row as text differ where the rows differ.
_DIGEST = "(select md5(string_agg(ctid::text || t::text, '' order by ctid)) from only {name} t)"

_STATISTICS = "(select concat_ws(' ', reltuples, relpages, relallvisible) from pg_class where oid = {oid})"


class SeededTable(NamedTuple):
    """A table as it is in the template.

    Args:
        oid: Its oid.
        name: Its name, qualified and quoted.
        columns: The columns that ``COPY`` writes, quoted, with commas.
        data: Its rows in the format of ``COPY ... (FORMAT binary)``; None where it is not refilled.
        sizes: The sizes in bytes of the table, its TOAST table and all of their indexes, by oid.
        statistics: What the planner knows of its size.
        digest: A digest of the places and contents of its rows; empty where it is not refilled.
        row_count: How many rows it has; an estimate where it is not refilled.
        has_toast: Whether rows have values outside of the table itself.
    """

    oid: int
    name: str
    columns: str
    data: bytes | None
    sizes: dict[int, int]
    statistics: str
    digest: str
    row_count: int
    has_toast: bool

    def can_be_restored(self, *, only_inserts: bool) -> bool:
        """Whether the table can be restored after a test has written to it.

        Args:
            only_inserts: Whether the test has updated and deleted no row.
        """
        return self.data is not None or (only_inserts and not self.has_toast)


def capture(connection: Connection, oid: int, name: str) -> SeededTable:
    """Read a table of a new copy of the template.

    Args:
        connection: A superuser's psycopg connection to the copy, in autocommit mode, with ``pg_catalog`` as its search
            path.
        oid: The oid of the table.
        name: Its name, qualified and quoted.
    """
    ((columns, toast, statistics, estimate),) = rows(
        connection,
        f"""
        select (select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
                where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = ''),
               reltoastrelid::bigint, {_STATISTICS.format(oid=oid)}, reltuples
        from pg_class c where oid = {oid}
        """,
    )
    sizes = {
        int(relation): int(size)
        for relation, size in rows(
            connection,
            f"""
            select o::bigint, pg_relation_size(o) from unnest(array[{oid}, nullif({toast}, 0)]::oid[]) o where o > 0
            union all
            select indexrelid::bigint, pg_relation_size(indexrelid) from pg_index where indrelid in ({oid}, {toast})
            """,
        )
    }
    data, digest, row_count = None, "", max(0, int(estimate))
    has_toast = sizes.get(int(toast), 0) > 0
    if not has_toast and row_count <= REFILLED_AT_MOST and sizes[oid] <= 4 * _MAX_BYTES:
        driver: Any = connection.connection.driver_connection
        try:
            with driver.cursor().copy(f"COPY {name} ({columns}) TO STDOUT {_FORMAT}") as copy:
                data = b"".join(copy)
        except psycopg.Error as error:  # a type without a binary format
            _log.debug("%s is not refilled: %s", name, error)
        else:
            ((row_count, digest),) = rows(connection, f"select count(*), {_DIGEST.format(name=name)} from only {name}")
            if len(data) > _MAX_BYTES or row_count > REFILLED_AT_MOST:
                data = None
    return SeededTable(oid, name, columns, data, sizes, statistics, digest, int(row_count), has_toast)


def unreadable(oid: int, name: str) -> SeededTable:
    """A table that could not be read, so that it is never restored."""
    return SeededTable(oid, name, "", None, {}, "", "", 0, has_toast=True)


_FORMAT = "(FORMAT binary, ENCODING 'UTF8')"


def refill(driver: psycopg.Connection[Any], tables: Iterable[SeededTable]) -> None:
    """Fill empty tables again. No trigger fires, no foreign key is checked, and no rule or policy acts.

    Args:
        driver: A superuser's connection in autocommit mode.
        tables: The tables, each with its ``data``.
    """
    with driver.transaction():
        driver.execute("SET LOCAL session_replication_role = replica")
        for table in tables:
            with driver.cursor().copy(f"COPY {table.name} ({table.columns}) FROM STDIN {_FORMAT}".encode()) as copy:
                copy.write(table.data or b"")


def difference(table: SeededTable, *, contents: bool) -> str:
    """An SQL expression that is true if `table` is not as it is in the template.

    Args:
        table: The table.
        contents: Compare the rows as well, which takes as long as reading them.
    """
    oid, size = table.oid, table.sizes[table.oid]
    conditions = [f"pg_relation_size({oid}) <> {size}", f"{_STATISTICS.format(oid=oid)} <> '{table.statistics}'"]
    # An index keeps its emptied pages for later use.
    conditions += [f"pg_relation_size({index}) > {2 * most}" for index, most in table.sizes.items() if index != oid]
    if contents and table.digest:
        conditions.append(f"{_DIGEST.format(name=table.name)} is distinct from '{table.digest}'")
    return " or ".join(conditions)

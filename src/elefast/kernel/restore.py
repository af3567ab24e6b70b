"""Putting a database back in place as its template made it: what was done to it, and how to undo that.

PostgreSQL counts every row that is written, in catalogs as well, for each table and for each database, and a backend
hands its counts in before it is gone (from PostgreSQL 15 on, in shared memory: none is lost on the way). So once
nobody is connected any more:

- A database whose count has not moved was not written to, but perhaps for its sequences, whose use is counted, too.
- One whose count has moved by just what the tables of the project tell was written to in these tables and nowhere
  else: no catalog, so no definition, no large object, no right, no statistics. Tables that were empty are emptied.
- Anything else is not put back, and the caller drops the database.

What stands outside of a database (its own row, settings, comment, slots, prepared transactions) is compared as text.

Functions over a connection in autocommit mode; which databases there are, and what is their fate, is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from elefast.kernel.contents import FIRST_OWN, Contents
from elefast.kernel.server import Facts
from elefast.kernel.sql import execute, rows, scalar

__all__ = ["FIRST_VERSION", "Change", "Inside", "Outside", "inside", "outside", "undo", "why_not"]

FIRST_VERSION = 150000
"""Before it, counts went through UDP to a collector, which might miss some."""

MOST_TABLES = 16
"""Emptying more tables than these takes as long as a copy of an ordinary database does."""

MOST_WRITES = 5000
"""The same, for rows."""

_OTHER_INDEXES = 65536
"""Bytes that an index may have when its table is empty again, if it is no B-tree, of which an empty one has a page
or two. PostgreSQL takes pages of indexes back only for reuse."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A database as seen from another one, while nobody is connected to it.

    Args:
        oid: What PostgreSQL knows it by, whatever its name.
        writes: Rows that were ever inserted, updated or deleted in it, also by transactions that were rolled back.
        marks: All else that there is of it outside, and what would make the counts begin anew.
    """

    oid: int
    writes: int
    marks: str


@dataclass(frozen=True, slots=True)
class Change:
    """A table, a toast table or a sequence of the project's that was used.

    Args:
        oid: Of the relation.
        kind: Its ``relkind``.
        name: Qualified and quoted.
        writes: Rows that were inserted, updated or deleted.
        estimate: Its ``reltuples``.
        special: It has rules, or triggers that fire in any case; or somebody vacuumed or analysed it.
    """

    oid: int
    kind: str
    name: str
    writes: int
    estimate: float
    special: bool


@dataclass(frozen=True, slots=True)
class Inside:
    """A database as seen from inside.

    Args:
        oid: Of the database.
        writes: As in `Outside`.
        changes: What was used of it.
    """

    oid: int
    writes: int
    changes: tuple[Change, ...]


# A crash loses all counts, and sets the time at which those of the background writer began.
_OUTSIDE = """
    select d.oid::bigint,
           pg_stat_get_db_tuples_inserted(d.oid) + pg_stat_get_db_tuples_updated(d.oid)
             + pg_stat_get_db_tuples_deleted(d.oid),
           concat_ws(
             chr(10), to_jsonb(d) - '{datname,datfrozenxid,datminmxid}'::text[],
             shobj_description(d.oid, 'pg_database'),
             (select jsonb_agg(s order by setrole) from pg_db_role_setting s where setdatabase = d.oid),
             (select jsonb_agg(l order by provider) from pg_shseclabel l
              where objoid = d.oid and classoid = 'pg_database'::regclass),
             (select count(*) from pg_replication_slots where database = d.datname),
             (select count(*) from pg_prepared_xacts where database = d.datname),
             (select count(*) from pg_subscription where subdbid = d.oid),
             pg_stat_get_db_stat_reset_time(d.oid), pg_stat_get_bgwriter_stat_reset_time(),
             pg_postmaster_start_time(), current_setting('track_counts'))
    from pg_database d where datname = :name
"""

_WRITES = "pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)"
_CARE = (
    "pg_stat_get_vacuum_count(oid) + pg_stat_get_autovacuum_count(oid)"
    " + pg_stat_get_analyze_count(oid) + pg_stat_get_autoanalyze_count(oid)"
)

# The database itself comes first.
_INSIDE = f"""
    select oid::bigint, 'database', '',
           pg_stat_get_db_tuples_inserted(oid) + pg_stat_get_db_tuples_updated(oid)
             + pg_stat_get_db_tuples_deleted(oid), 0::real, false
    from pg_database where datname = current_database()
    union all
    select c.oid::bigint, relkind::text, format('%I.%I', nspname, relname), writes, reltuples,
           care > 0 or relhasrules or exists (select from pg_trigger where tgrelid = c.oid and tgenabled in ('A', 'R'))
    from (select *, case relkind when 'S' then 0 else {_WRITES} end as writes, {_CARE} as care
          from pg_class where oid >= :own and relkind in ('r', 'm', 't', 'S') offset 0) c
    join pg_namespace n on n.oid = relnamespace
    where writes > 0 or care > 0 or (relkind = 'S' and pg_stat_get_blocks_fetched(c.oid) > 0)
"""


def outside(connection: Connection, name: str) -> Outside | None:
    """What there is of database `name` outside of it; None where there is no such database."""
    found = rows(connection, _OUTSIDE, name=name)
    return Outside(*found[0]) if found else None


def inside(connection: Connection) -> Inside:
    """What was done to the database of `connection`, in which that is the only session."""
    (own, *found) = rows(connection, _INSIDE, own=FIRST_OWN)
    return Inside(own[0], own[3], tuple(Change(*row) for row in found))


def why_not(seen: Inside, before: Outside, contents: Contents | None, facts: Facts) -> str:
    """Why a database cannot be put back as it was, in words; empty where it can.

    Args:
        seen: The database now.
        before: The same when it was as its template made it.
        contents: What the template has in it; None where that cannot be known.
        facts: What the server is.
    """
    if seen.oid != before.oid:
        return "it is another database"
    if contents is None:
        return "what its template has in it is not known"
    tables = [change for change in seen.changes if change.kind != "S"]
    if seen.writes - before.writes != sum(change.writes for change in tables):
        return "its catalogs were written to"
    if not seen.changes:
        return ""
    if tables and not facts.superuser:
        return "only a superuser empties tables whatever refers to them"
    if len(tables) > MOST_TABLES or seen.writes - before.writes > MOST_WRITES:
        return "too much of it was written to"
    for change in tables:
        if change.special or change.kind == "m" or change.oid in contents.filled:
            return f"{change.name} cannot be emptied"
    return ""


def undo(connection: Connection, changes: Sequence[Change], contents: Contents | None, facts: Facts) -> bool:
    """Empty tables, set sequences back and have nothing left of either; say whether that came true.

    Args:
        connection: To the database, and the only session there.
        changes: What was used, all of it by the leave of `why_not`.
        contents: What the template has in it.
        facts: What the server is.
    """
    assert contents is not None
    if sequences := [_set_back(change.oid, contents) for change in changes if change.kind == "S"]:
        execute(connection, "; ".join(sequences))
    tables = [change for change in changes if change.kind != "S"]
    if tables:
        _empty(connection, tables, facts)
    if facts.superuser:  # else a sequence that was used once is set back each time
        # Our own counts must not come later; when this statement ends, they have been handed in.
        scalar(connection, "select 1 from pg_stat_force_next_flush()")
        everything = [change.oid for change in changes]
        rows(connection, f"select pg_stat_reset_single_table_counters(oid) from {_RELATIONS}", relations=everything)
    return not tables or bool(
        scalar(connection, _IS_EMPTY, relations=[table.oid for table in tables], other=_OTHER_INDEXES)
    )


def _empty(connection: Connection, tables: Sequence[Change], facts: Facts) -> None:
    # As a replica: no trigger fires and no foreign key is looked at, since all that would refer to a row goes as well.
    delete = [f"DELETE FROM ONLY {table.name}" for table in tables if table.kind == "r"]
    execute(connection, "; ".join(["BEGIN", "SET LOCAL session_replication_role = replica", *delete, "COMMIT"]))
    # It cuts an empty table off to no pages, so that rows come to lie as in a new one.
    options = "TRUNCATE, INDEX_CLEANUP ON, PROCESS_TOAST OFF"
    options += ", SKIP_DATABASE_STATS" if facts.version >= 160000 else ""
    only = "ONLY " if facts.version >= 180000 else ""  # from 18 on, those that inherit from it would be included
    execute(connection, f"VACUUM ({options}) {', '.join(only + table.name for table in tables)}")
    # A table that was never vacuumed is taken for one that will grow, so the planner must not see that it was.
    estimates = ", ".join(f"({table.oid}, {table.estimate})" for table in tables)
    execute(
        connection,
        f"UPDATE pg_class SET reltuples = estimate FROM (VALUES {estimates}) AS before (relation, estimate) "
        "WHERE oid = relation",
    )


_RELATIONS = "unnest(cast(:relations as oid[])) oid"

_IS_EMPTY = f"""
    select not exists (select from {_RELATIONS} where pg_relation_size(oid) > 0)
       and not exists (
         select from pg_index join pg_class on pg_class.oid = indexrelid
         where indrelid in (select oid from {_RELATIONS})
         and pg_relation_size(indexrelid) > case (select amname from pg_am where pg_am.oid = relam)
           when 'btree' then 2 * current_setting('block_size')::int else :other end)
"""


def _set_back(sequence: int, contents: Contents) -> str:
    if sequence in contents.advanced:
        last, called = contents.advanced[sequence]
        return f"SELECT setval({sequence}, {last}, {str(called).lower()})"
    return f"SELECT setval({sequence}, seqstart, false) FROM pg_sequence WHERE seqrelid = {sequence}"

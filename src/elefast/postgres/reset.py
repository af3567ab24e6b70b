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

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from elefast.postgres.contents import FIRST_NORMAL_OID, TemplateContents
from elefast.postgres.server import ServerInfo
from elefast.postgres.sql import execute, prepared_rows, rows

__all__ = [
    "MINIMUM_VERSION",
    "DatabaseActivity",
    "DatabaseState",
    "Relation",
    "RelationActivity",
    "WriteCounts",
    "read_activity",
    "read_relations",
    "read_state",
    "reason_against",
    "reset",
]

MINIMUM_VERSION = 150000
"""Before it, counts went through UDP to a collector, which might miss some."""

MAX_TABLES = 16
"""Emptying more tables than these takes as long as a copy of an ordinary database does."""

MAX_WRITES = 5000
"""The same, for rows."""

_OTHER_INDEXES = 65536
"""Bytes that an index may have when its table is empty again, if it is no B-tree, of which an empty one has a page
or two. PostgreSQL takes pages of indexes back only for reuse."""

_LOGGED_AHEAD = 32
"""SEQ_LOG_VALS in commands/sequence.c."""


class WriteCounts(NamedTuple):
    """PostgreSQL's counts for a database.

    Args:
        writes: Rows that were ever inserted, updated or deleted in it, also by transactions that were rolled back.
        since: When somebody last made some of its counts begin anew.
    """

    writes: int
    since: str


class DatabaseState(NamedTuple):
    """A database as seen from another one, while nobody is connected to it.

    Args:
        oid: What PostgreSQL knows it by, whatever its name.
        counts: What was written to it.
        marks: All else that there is of it outside, and what would make all counts begin anew.
        uncounted: Which setting keeps PostgreSQL from counting what some session writes; empty where none does.
        at: When this was read, in seconds since the epoch, by the server's clock.
        loaded: When the server last read its configuration files, by the same clock.
        horizon: The first transaction id that was not used yet.
    """

    oid: int
    counts: WriteCounts
    marks: str
    uncounted: str
    at: float
    loaded: float
    horizon: int

    def why_other(self, before: DatabaseState) -> str:
        """What has changed since `before`, apart from what was written, in words; empty where nothing has.

        Also empty only if PostgreSQL counted the writes of each session that connected in between with the
        settings of the server, its roles and its databases.
        """
        if uncounted := self.uncounted or before.uncounted:
            return uncounted
        if self.loaded > before.at:
            # It may have switched the counting off, and been loaded again to switch it on.
            return "the server has read its configuration again"
        if (self.oid, self.counts.since, self.marks) != (before.oid, before.counts.since, before.marks):
            return "something that PostgreSQL keeps outside of it is other than before"
        return ""


class Relation(NamedTuple):
    """A table, a toast table, a sequence or a catalog, as all copies of one template have it.

    Args:
        oid: What PostgreSQL knows it by.
        kind: Its ``relkind``.
        name: Qualified and quoted.
        estimate: Its ``reltuples``.
        special: It has rules, or triggers that fire in any case.
        indexes: The oids of its indexes, and how many bytes each may have when it is empty.
    """

    oid: int
    kind: str
    name: str
    estimate: float
    special: bool
    indexes: tuple[tuple[int, int], ...]


class RelationActivity(NamedTuple):
    """A relation that was used.

    Args:
        relation: Which.
        writes: Rows that were inserted, updated or deleted; of a sequence not counted.
        cared: It was vacuumed or analysed, which is all that can be done to a partitioned or a foreign one.
    """

    relation: Relation
    writes: int
    cared: bool


class DatabaseActivity(NamedTuple):
    """All relations of a database that were used.

    Args:
        database: The oid of the database that they are in.
        used: Which, and how.
        counting: PostgreSQL counts what the session writes that asked.
    """

    database: int
    used: Sequence[RelationActivity]
    counting: bool

    @property
    def tables(self) -> list[RelationActivity]:
        """Those that are no sequences."""
        return [change for change in self.used if change.relation.kind != "S"]


_COUNTS = (
    "pg_stat_get_db_tuples_inserted(d.oid) + pg_stat_get_db_tuples_updated(d.oid)"
    " + pg_stat_get_db_tuples_deleted(d.oid), coalesce(pg_stat_get_db_stat_reset_time(d.oid)::text, '')"
)

# A crash loses all counts, and sets the time at which those of the background writer began.
_OUTSIDE = f"""
    select d.oid::bigint, {_COUNTS},
           concat_ws(
             chr(10), to_jsonb(d) - '{{datname,datfrozenxid,datminmxid}}'::text[],
             shobj_description(d.oid, 'pg_database'),
             (select jsonb_agg(s order by setrole) from pg_db_role_setting s where setdatabase = d.oid),
             (select jsonb_agg(l order by provider) from pg_shseclabel l
              where objoid = d.oid and classoid = 'pg_database'::regclass),
             (select count(*) from pg_replication_slots where database = d.datname),
             (select count(*) from pg_prepared_xacts where database = d.datname),
             (select count(*) from pg_subscription where subdbid = d.oid),
             pg_stat_get_bgwriter_stat_reset_time(), pg_postmaster_start_time()),
           case when current_setting('track_counts') <> 'on' then 'track_counts is off'
                when exists (select from pg_db_role_setting, unnest(setconfig) setting
                             where setdatabase in (0, d.oid) and setting ~ '^track_counts=' and setting !~ '=on$')
                then 'a role or a database has track_counts switched off'
                when exists (select from pg_parameter_acl where parname = 'track_counts')
                then 'a role was granted the right to set track_counts'
                else '' end,
           extract(epoch from clock_timestamp())::float8, extract(epoch from pg_conf_load_time())::float8,
           pg_snapshot_xmax(pg_current_snapshot())::xid::text::bigint
    from pg_database d where datname = $1"""

# With "pg_catalog" as the search path, PostgreSQL qualifies the name of each relation of the project's.
# 403 is the oid of the index access method "btree" (pg_am.dat).
_RELATIONS = f"""
    select oid::bigint, relkind::text, oid::regclass::text, reltuples,
           relhasrules
             or relhastriggers and exists (select from pg_trigger where tgrelid = c.oid and tgenabled in ('A', 'R')),
           (select coalesce(jsonb_agg(jsonb_build_array(i.oid::bigint, i.relam = 403)), '[]')::text
            from pg_index join pg_class i on i.oid = indexrelid where indrelid = c.oid)
    from pg_class c
    where oid >= {FIRST_NORMAL_OID} and relkind in ('r', 'p', 'm', 'f', 't', 'S')
       or oid < {FIRST_NORMAL_OID} and relkind = 'r' and not relisshared
"""

# It has nothing to look up: a backend that has just begun knows no catalogs yet, and each costs it a while.
_CHANGES = """
    select (select oid::bigint from pg_database where datname = current_database()), o::bigint, writes, care > 0
    from (select o,
                 pg_stat_get_tuples_inserted(o) + pg_stat_get_tuples_updated(o) + pg_stat_get_tuples_deleted(o),
                 pg_stat_get_vacuum_count(o) + pg_stat_get_autovacuum_count(o)
                 + pg_stat_get_analyze_count(o) + pg_stat_get_autoanalyze_count(o)
          from unnest({tables}) o) as tables (o, writes, care)
    where writes > 0 or care > 0
    union all
    select (select oid::bigint from pg_database where datname = current_database()), o::bigint, 0, false
    from unnest({sequences}) o where pg_stat_get_blocks_fetched(o) > 0
    union all
    select (select oid::bigint from pg_database where datname = current_database()), o::bigint, 0, true
    from unnest({catalogs}) o
    where pg_stat_get_vacuum_count(o) + pg_stat_get_autovacuum_count(o)
          + pg_stat_get_analyze_count(o) + pg_stat_get_autoanalyze_count(o) > 0
    union all
    select 0, 0, 0, false where current_setting('track_counts') <> 'on'
"""


def read_state(connection: Connection, name: str) -> DatabaseState | None:
    """What there is of database `name` outside of it; None where there is no such database."""
    for oid, writes, since, *rest in prepared_rows(connection, _OUTSIDE, name):
        return DatabaseState(oid, WriteCounts(writes, since), *rest)
    return None


def read_relations(connection: Connection, server_info: ServerInfo) -> dict[int, Relation]:
    """What the database of `connection` has that can be used, by oid; its search path is ``pg_catalog``."""

    def indexes(found: str) -> tuple[tuple[int, int], ...]:
        return tuple((oid, 2 * server_info.block_size if btree else _OTHER_INDEXES) for oid, btree in json.loads(found))

    return {
        oid: Relation(oid, kind, name, estimate, special, indexes(found))
        for oid, kind, name, estimate, special, found in rows(connection, _RELATIONS)
    }


def read_activity(connection: Connection, known: Mapping[int, Relation]) -> DatabaseActivity:
    """What was used of the `known` relations in the database of `connection`, where that is the only session."""
    sequences = {oid for oid, relation in known.items() if relation.kind == "S"}
    # What is written to a catalog shows in the count of the database. VACUUM and ANALYZE write there in place.
    catalogs = {oid for oid in known if oid < FIRST_NORMAL_OID}
    tables = known.keys() - sequences - catalogs
    query = _CHANGES.format(tables=_oids(tables), sequences=_oids(sequences), catalogs=_oids(catalogs))
    found = rows(connection, query)
    used = [RelationActivity(known[oid], writes, cared) for _, oid, writes, cared in found if oid]
    return DatabaseActivity(found[0][0] if found else 0, used, counting=len(used) == len(found))


def reason_against(
    seen: DatabaseActivity,
    before: DatabaseState,
    after: DatabaseState,
    contents: TemplateContents | None,
    server_info: ServerInfo,
) -> str:
    """Why a database cannot be put back as it was, in words; empty where it can.

    Args:
        seen: What was used of it.
        before: The database when it was as its template made it.
        after: The database now.
        contents: What the template has in it; None where that cannot be known.
        server_info: What the server is.
    """
    if contents is None:
        return "what its template has in it is not known"
    if contents.uncounted:
        return f"{contents.uncounted} may switch track_counts off"
    if not seen.counting:
        return "track_counts is off for sessions of it"
    tables = seen.tables
    writes = after.counts.writes - before.counts.writes
    if writes != sum(change.writes for change in tables):
        return "its catalogs were written to"
    if seen.used and seen.database != before.oid:
        return "it is another database"
    if tables and not server_info.superuser:
        return "only a superuser empties tables whatever refers to them"
    if len(tables) > MAX_TABLES or writes > MAX_WRITES:
        return "too much of it was written to"
    for change in tables:
        relation = change.relation
        if change.cared:
            return f"{relation.name} was vacuumed or analysed"
        if relation.special or relation.kind == "m" or relation.oid in contents.filled:
            return f"{relation.name} cannot be emptied"
        if relation.estimate:
            return f"the planner would be told that {relation.name} is empty"
    return ""


def reset(
    connection: Connection, seen: DatabaseActivity, contents: TemplateContents | None, server_info: ServerInfo
) -> WriteCounts | None:
    """Empty tables and set sequences back.

    Args:
        connection: To the database, and the only session there.
        seen: What was used, all of it by the leave of `reason_against`.
        contents: What the template has in it.
        server_info: What the server is.

    Returns:
        The counts from which on the next one's work is told; None where something takes more room than it did.
    """
    assert contents is not None
    tables = [change.relation for change in seen.tables]
    used = [change.relation.oid for change in seen.used]
    statements = [_reset_sequence(change.relation.oid, contents) for change in seen.used if change.relation.kind == "S"]
    if tables:
        # As a replica: no trigger fires and no foreign key is looked at, as all that would refer to a row goes as well.
        statements += ["BEGIN", "SET LOCAL session_replication_role = replica"]
        statements += [f"DELETE FROM ONLY {table.name}" for table in tables if table.kind == "r"]
        statements += ["COMMIT"]
    execute(connection, "; ".join(statements))
    if tables:
        # It cuts an empty table off to no pages, so that rows come to lie as in a new one.
        options = "TRUNCATE, INDEX_CLEANUP ON, PROCESS_TOAST OFF"
        options += ", SKIP_DATABASE_STATS" if server_info.version >= 160000 else ""
        only = (
            "ONLY " if server_info.version >= 180000 else ""
        )  # from 18 on, those that inherit from it would be included
        execute(connection, f"VACUUM ({options}) {', '.join(only + table.name for table in tables)}")
    # When this has been done, our own counts have been handed in, and do not come later.
    execute(connection, "SELECT pg_stat_force_next_flush()")
    rooms = [(table.oid, 0) for table in tables] + [index for table in tables for index in table.indexes]
    sizes = " or ".join(f"pg_relation_size({oid}) > {most}" for oid, most in rooms) or "false"
    # An ordinary role cannot have counts begin anew: a sequence that was used once is set back each time from now on.
    begun = f"select count(pg_stat_reset_single_table_counters(oid)::text) from unnest({_oids(used)}) oid"
    ((too_large, *counts),) = rows(
        connection,
        f"""
        select {sizes}, {_COUNTS}
        from ({begun if server_info.superuser else "select"}) begun, pg_database d where datname = current_database()
        """,
    )
    return None if too_large else WriteCounts(*counts)


def _oids(oids: Iterable[int]) -> str:
    """An array; as text, since not all drivers know the type of a parameter."""
    return f"'{{{','.join(map(str, oids))}}}'::oid[]"


def _reset_sequence(sequence: int, contents: TemplateContents) -> str:
    if sequence not in contents.advanced:
        return f"SELECT setval({sequence}, seqstart, false) FROM pg_sequence WHERE seqrelid = {sequence}"
    last, called, logged = contents.advanced[sequence]
    # PostgreSQL logs 32 values ahead when it gives out one, and counts down in log_cnt, which setval() sets to zero.
    used = _LOGGED_AHEAD + 1 - logged
    if not (called and 0 < used <= _LOGGED_AHEAD):
        return f"SELECT setval({sequence}, {last}, {str(called).lower()})"
    first = f"SELECT setval({sequence}, {last} - {used - 1} * seqincrement, false) FROM pg_sequence"
    return (
        f"{first} WHERE seqrelid = {sequence}; "
        f"SELECT count(nextval({sequence}::regclass)) FROM generate_series(1, {used})"
    )

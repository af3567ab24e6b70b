"""Resets a used database to the state in which it was cloned from its template.

PostgreSQL counts each row that is written, also in catalogs, for each table and for each database. A backend reports
its counts before it ends (from PostgreSQL 15 on in shared memory, so that none is lost). Therefore, once a database has
no sessions:

- If the count of the database has not changed, no table was written to. Sequences may have been used; their use is
  counted separately.
- If the count of the database has grown by exactly the writes to the project's own tables, no catalog was written to:
  no definition, large object, right or statistics has changed. Tables that are empty in the template are emptied, and
  others are restored as `elefast.postgres.seeded_tables` describes.
- In any other case the database is not reset, and the caller drops it.

Properties that PostgreSQL keeps outside of the database (its row in ``pg_database``, settings, comment, slots, prepared
transactions) are compared as text.

The counters only grow. The caller keeps those of the last reset in memory and compares, so that no statistics have to
be reset. A backend keeps what it has counted for up to a second, unless `FLUSH_COUNTERS` makes it report at once.

The caller runs the statements, over a connection in autocommit mode, and decides which databases are reset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from elefast.postgres.contents import FIRST_NORMAL_OID, TemplateContents
from elefast.postgres.seeded_tables import SeededTable, difference
from elefast.postgres.server import ServerInfo
from elefast.postgres.sql import prepared_rows, rows

__all__ = [
    "FLUSH_COUNTERS",
    "MINIMUM_VERSION",
    "Counters",
    "DatabaseActivity",
    "DatabaseState",
    "Relation",
    "RelationActivity",
    "RelationCounters",
    "ResetPlan",
    "WriteCounts",
    "activity_of",
    "activity_query",
    "counts_after_reset",
    "plan_reset",
    "read_relations",
    "read_state",
    "reason_against",
]

MINIMUM_VERSION = 150000
"""Earlier versions send counts over UDP to a collector, and some may be lost."""

# Seconds that parts of a reset take, measured on PostgreSQL 18 with the data in memory and two indexes on each table. A
# reset that would take longer than a new copy of the database is not made.
_TABLE_COST = 0.0002
_ROW_COST = 0.0000007
_REFILLED_ROW_COST = 0.000012

_MAX_INDEX_SIZE = 65536
"""The largest size, in bytes, of an index on an empty table, unless it is a B-tree, which has a page or two then.
PostgreSQL keeps the pages of an index for later use."""

_LOGGED_AHEAD = 32
"""The number of values of a sequence that PostgreSQL logs in advance (SEQ_LOG_VALS in commands/sequence.c)."""


class WriteCounts(NamedTuple):
    """PostgreSQL's statistics about writes to a database.

    Args:
        writes: The number of rows that were inserted, updated or deleted, also by transactions that were rolled back.
        since: The time of the last reset of some of the database's statistics, as text.
    """

    writes: int
    since: str


class DatabaseState(NamedTuple):
    """The state of a database without sessions, read over a connection to another database.

    Args:
        oid: The oid of the database, which a rename does not change.
        counts: The statistics about writes to it.
        properties: All other properties that PostgreSQL keeps outside of the database, and the times of events that
            reset the statistics of the server.
        uncounted: The setting by which PostgreSQL does not count the writes of some sessions; empty without one.
        read_at: The time of the reading by the server's clock, in seconds since the epoch.
        configured_at: The time at which the server last read its configuration files, by the same clock.
        next_xid: The next transaction id at the time of the reading.
    """

    oid: int
    counts: WriteCounts
    properties: str
    uncounted: str
    read_at: float
    configured_at: float
    next_xid: int

    def difference_from(self, before: DatabaseState) -> str:
        """Compare the state with an earlier one, apart from the number of writes.

        Args:
            before: The earlier state of the same database.

        Returns:
            A description of the difference; empty without one. It is empty only if PostgreSQL has counted the writes
            of all sessions in between that had the settings of the server, the roles and the databases.
        """
        if uncounted := self.uncounted or before.uncounted:
            return uncounted
        if self.configured_at > before.read_at:
            # An earlier version of the files may have had track_counts off.
            return "the server has read its configuration files again"
        if (self.oid, self.counts.since, self.properties) != (before.oid, before.counts.since, before.properties):
            return "its settings, comment, rights or other properties have changed"
        return ""


class Relation(NamedTuple):
    """A table, TOAST table, sequence or catalog, which is the same in all copies of a template.

    Args:
        oid: Its oid.
        kind: Its ``relkind``.
        name: Its name, qualified and quoted.
        row_estimate: Its ``reltuples``.
        has_rules_or_triggers: It has rules, or triggers that fire even in a replica.
        indexes: The oid of each of its indexes, and the largest size in bytes that the index may have without rows.
    """

    oid: int
    kind: str
    name: str
    row_estimate: float
    has_rules_or_triggers: bool
    indexes: tuple[tuple[int, int], ...]


class RelationCounters(NamedTuple):
    """PostgreSQL's statistics about one relation.

    Args:
        writes: The number of rows that were inserted, updated or deleted.
        changes: The number of rows that were updated or deleted.
        maintenance: How often it was vacuumed and analysed.
        blocks: The number of blocks that were read, for sequences alone: a sequence has no other counter.
    """

    writes: int = 0
    changes: int = 0
    maintenance: int = 0
    blocks: int = 0


Rows = Sequence[tuple[Any, ...]]
"""The rows of a query. Numbers may be text, because a `RetainedSession` gives values as the server sends them."""

Counters = Mapping[int, RelationCounters]
"""The statistics of relations by oid, without those that are zero."""


class RelationActivity(NamedTuple):
    """The use of a relation.

    Args:
        relation: The relation.
        writes: The number of rows that were inserted, updated or deleted; 0 for a sequence.
        maintained: It was vacuumed or analysed. Nothing else is counted for partitioned and foreign tables.
        only_inserts: No row was updated or deleted.
    """

    relation: Relation
    writes: int
    maintained: bool
    only_inserts: bool


class DatabaseActivity(NamedTuple):
    """The use of all relations of a database.

    Args:
        database_oid: The oid of the database; 0 if no relation was ever used.
        used: The relations that were used.
        counters: The statistics of all relations now.
        counted: PostgreSQL counts the writes of the session that has read this.
    """

    database_oid: int
    used: Sequence[RelationActivity]
    counters: Counters
    counted: bool

    @property
    def tables(self) -> list[RelationActivity]:
        """The tables and catalogs among the used relations."""
        return [change for change in self.used if change.relation.kind != "S"]


FLUSH_COUNTERS = "SELECT pg_stat_force_next_flush()"
"""Has the session report what it has counted when this statement ends."""

_COUNTS = (
    "pg_stat_get_db_tuples_inserted(d.oid) + pg_stat_get_db_tuples_updated(d.oid)"
    " + pg_stat_get_db_tuples_deleted(d.oid), coalesce(pg_stat_get_db_stat_reset_time(d.oid)::text, '')"
)

# A crash resets all statistics, and with them the reset time of the background writer's.
_STATE = f"""
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

# With "pg_catalog" as the search path, PostgreSQL qualifies the names of all relations of the project.
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

_MAINTENANCE = (
    "pg_stat_get_vacuum_count({oid}) + pg_stat_get_autovacuum_count({oid})"
    " + pg_stat_get_analyze_count({oid}) + pg_stat_get_autoanalyze_count({oid})"
)

# The query reads no catalog but pg_database, because a new backend has no catalog in its cache.
_COUNTERS = f"""
    select (select oid::bigint from pg_database where datname = current_database()), o::bigint,
           writes, changes, maintenance, blocks
    from (select o,
                 pg_stat_get_tuples_inserted(o) + pg_stat_get_tuples_updated(o) + pg_stat_get_tuples_deleted(o),
                 pg_stat_get_tuples_updated(o) + pg_stat_get_tuples_deleted(o), {_MAINTENANCE.format(oid="o")}, 0
          from unnest({{tables}}) o
          union all
          select o, 0, 0, 0, pg_stat_get_blocks_fetched(o) from unnest({{sequences}}) o
          union all
          select o, 0, 0, {_MAINTENANCE.format(oid="o")}, 0 from unnest({{catalogs}}) o
         ) as relations (o, writes, changes, maintenance, blocks)
    where writes > 0 or maintenance > 0 or blocks > 0
    union all
    select 0, 0, 0, 0, 0, 0 where current_setting('track_counts') <> 'on'
"""

# What this session has counted and not yet reported (pg_stat_get_xact_...) is part of the new counters.
_AFTER_RESET = """
    select ({different})::int, o::bigint,
           pg_stat_get_tuples_inserted(o) + pg_stat_get_tuples_updated(o) + pg_stat_get_tuples_deleted(o),
           pg_stat_get_xact_tuples_inserted(o) + pg_stat_get_xact_tuples_updated(o)
           + pg_stat_get_xact_tuples_deleted(o),
           pg_stat_get_tuples_updated(o) + pg_stat_get_tuples_deleted(o)
           + pg_stat_get_xact_tuples_updated(o) + pg_stat_get_xact_tuples_deleted(o), {maintenance},
           pg_stat_get_blocks_fetched(o) + pg_stat_get_xact_blocks_fetched(o), {counts}
    from unnest({used}) o, pg_database d where datname = current_database()
"""


_UNUSED = RelationCounters()


def read_state(connection: Connection, name: str) -> DatabaseState | None:
    """The state of database `name`; None if there is no such database."""
    for oid, writes, since, *rest in prepared_rows(connection, _STATE, name):
        return DatabaseState(oid, WriteCounts(writes, since), *rest)
    return None


def read_relations(connection: Connection, server_info: ServerInfo) -> dict[int, Relation]:
    """All relations that a test can use, by oid.

    Args:
        connection: To the database, with ``pg_catalog`` as its search path.
        server_info: The facts about the server.
    """

    def indexes(found: str) -> tuple[tuple[int, int], ...]:
        return tuple(
            (oid, 2 * server_info.block_size if btree else _MAX_INDEX_SIZE) for oid, btree in json.loads(found)
        )

    return {
        oid: Relation(oid, kind, name, estimate, special, indexes(found))
        for oid, kind, name, estimate, special, found in rows(connection, _RELATIONS)
    }


def activity_query(known: Mapping[int, Relation]) -> str:
    """The query for `activity_of`, for the only session on a database with the relations `known`."""
    sequences = {oid for oid, relation in known.items() if relation.kind == "S"}
    # The count of the database shows writes to catalogs, except for those of VACUUM and ANALYZE, which are in place.
    catalogs = {oid for oid in known if oid < FIRST_NORMAL_OID}
    tables = known.keys() - sequences - catalogs
    return _COUNTERS.format(tables=_oids(tables), sequences=_oids(sequences), catalogs=_oids(catalogs))


def activity_of(found: Rows, known: Mapping[int, Relation], before: Counters) -> DatabaseActivity:
    """The use of relations since the database was created or last reset.

    Args:
        found: The rows of `activity_query`.
        known: The relations of the database, by oid.
        before: The counters after the last reset; empty for a new copy.
    """
    numbers = [tuple(map(int, row)) for row in found]
    counters = {oid: RelationCounters(*counts) for _, oid, *counts in numbers if oid}
    used = [
        RelationActivity(
            known[oid], now.writes - then.writes, now.maintenance != then.maintenance, now.changes == then.changes
        )
        for oid, now in counters.items()
        if now != (then := before.get(oid, _UNUSED))
    ]
    return DatabaseActivity(numbers[0][0] if numbers else 0, used, counters, counted=len(counters) == len(numbers))


def reason_against(
    activity: DatabaseActivity,
    before: DatabaseState,
    after: DatabaseState,
    contents: TemplateContents | None,
    server_info: ServerInfo,
    seeded: Mapping[int, SeededTable],
    most_seconds: float,
) -> str:
    """Decide whether a database can be reset.

    Args:
        activity: The use of its relations.
        before: Its state when it was cloned or last reset.
        after: Its state now.
        contents: The contents of its template; None if they are unknown.
        server_info: The facts about the server.
        seeded: What is known of tables that have rows in the template, by oid.
        most_seconds: How long a reset may take: as long as a new copy would.

    Returns:
        The reason against a reset; empty without one.
    """
    if contents is None:
        return "the contents of its template are unknown"
    if contents.uncounted:
        return f"{contents.uncounted} may switch track_counts off"
    if not activity.counted:
        return "track_counts is off for its sessions"
    tables = activity.tables
    writes = after.counts.writes - before.counts.writes
    if writes != sum(change.writes for change in tables):
        return "its catalogs were written to"
    if activity.used and activity.database_oid != before.oid:
        return "it is another database"
    if tables and not server_info.superuser:
        return "only a superuser can empty tables that foreign keys refer to"
    for change in tables:
        relation = change.relation
        if change.maintained:
            return f"{relation.name} was vacuumed or analysed"
        if relation.has_rules_or_triggers or relation.kind == "m":
            return f"{relation.name} has rules, triggers or the like"
        if relation.oid in contents.filled:
            table = seeded.get(relation.oid)
            if table is None or not table.can_be_restored(only_inserts=change.only_inserts):
                return f"{relation.name} has rows in the template"
        elif relation.row_estimate:
            return f"the planner would take {relation.name} to be empty"
    refilled = sum(table.row_count for table in seeded.values() if _is_used(table, tables) and table.data is not None)
    seconds = len(tables) * _TABLE_COST + writes * _ROW_COST + refilled * _REFILLED_ROW_COST
    return "a new copy takes less time" if seconds > most_seconds else ""


def _is_used(table: SeededTable, tables: Sequence[RelationActivity]) -> bool:
    return any(change.relation.oid == table.oid for change in tables)


class ResetPlan(NamedTuple):
    """How a database is reset; the statements are grouped by transactions.

    Args:
        empties: The statements that empty tables and reset sequences.
        refilled: The tables to refill then.
        pruned: Tables of which only the new rows are deleted. A session remembers the page that it has last inserted
            into, so the one that has pruned them would insert elsewhere than a new one.
        finishes: The statements after that. The last one is the query for `counts_after_reset`.
    """

    empties: list[list[str]]
    refilled: list[SeededTable]
    pruned: list[SeededTable]
    finishes: list[list[str]]


def plan_reset(
    activity: DatabaseActivity,
    contents: TemplateContents | None,
    server_info: ServerInfo,
    seeded: Mapping[int, SeededTable],
    since: int,
    *,
    compare: bool,
) -> ResetPlan:
    """Plan the reset of a database against which there is no reason; see `reason_against`.

    Args:
        activity: The use of its relations.
        contents: The contents of the template.
        server_info: The facts about the server.
        seeded: What is known of tables that have rows in the template, by oid.
        since: The next transaction id at the time when the copy was made.
        compare: Compare the rows of refilled tables with those in the template.
    """
    assert contents is not None  # or there is a reason
    tables = [change.relation for change in activity.tables]
    restored = [seeded[table.oid] for table in tables if table.oid in contents.filled]
    refilled = [table for table in restored if table.data is not None]
    pruned = {table.oid: table for table in restored if table.data is None}
    transactions = [
        [
            statement
            for change in activity.used
            if change.relation.kind == "S"
            for statement in _reset_sequence(change.relation.oid, contents)
        ]
    ]
    finishes: list[list[str]] = []
    if tables:
        # In a replica no triggers fire and no foreign keys are checked. Rows that refer to a deleted row go as well.
        transactions[0] += ["BEGIN", "SET LOCAL session_replication_role = replica"]
        transactions[0] += [
            f"DELETE FROM ONLY {table.name}"
            + (f" WHERE age(xmin) <= age('{since}'::xid)" if table.oid in pruned else "")
            for table in tables
            if table.kind == "r"
        ]
        transactions[0] += ["COMMIT"]
        # VACUUM truncates an empty table to no pages, so that new rows are stored as in a new table.
        transactions.append([_vacuum((table.name for table in tables), server_info)])
    if refilled:
        # So that the planner knows the tables as it did.
        finishes.append([_vacuum((table.name for table in refilled), server_info)])
    limits = [
        (oid, most)
        for table in tables
        if table.oid not in contents.filled
        for oid, most in [(table.oid, 0), *table.indexes]
    ]
    different = [f"pg_relation_size({oid}) > {most}" for oid, most in limits]
    different += [difference(table, contents=compare) for table in restored]
    used = _oids(change.relation.oid for change in activity.used)
    query = _AFTER_RESET.format(
        different=" or ".join(different) or "false",
        maintenance=_MAINTENANCE.format(oid="o"),
        counts=_COUNTS,
        used=used,
    )
    return ResetPlan(transactions, refilled, list(pruned.values()), [*finishes, [query]])


def _vacuum(names: Iterable[str], server_info: ServerInfo) -> str:
    options = "TRUNCATE, INDEX_CLEANUP ON, PROCESS_TOAST OFF"
    options += ", SKIP_DATABASE_STATS" if server_info.version >= 160000 else ""
    only = "ONLY " if server_info.version >= 180000 else ""  # from 18 on, its children would be included
    return f"VACUUM ({options}) {', '.join(only + name for name in names)}"


def counts_after_reset(
    found: Rows, activity: DatabaseActivity, now: WriteCounts
) -> tuple[WriteCounts, Counters] | None:
    """The counts of the database and of its relations after the reset.

    Args:
        found: The rows of the last statement of a `ResetPlan`.
        activity: The use of the relations before the reset.
        now: The counts of the database before the reset.

    Returns:
        The counts; None if a table differs from the template, or takes more room, so that the caller drops the
        database.
    """
    kinds = {change.relation.oid: change.relation.kind for change in activity.used}
    counters = dict(activity.counters)
    reported, since, unreported = now.writes, now.since, 0
    for differs, *numbers, writes, reset_at in found:
        if int(differs):
            return None
        oid, before, pending, changes, maintenance, blocks = map(int, numbers)
        counters[oid] = RelationCounters(before + pending, changes, maintenance, blocks if kinds[oid] == "S" else 0)
        unreported += pending
        reported, since = int(writes), str(reset_at)  # the same in each row
    return WriteCounts(reported + unreported, since), counters


def _oids(oids: Iterable[int]) -> str:
    """An array of oids as SQL text, because some drivers cannot tell the type of a parameter."""
    return f"'{{{','.join(map(str, oids))}}}'::oid[]"


def _reset_sequence(sequence: int, contents: TemplateContents) -> list[str]:
    """The statements that reset a sequence, given by its oid, to its state in the template."""
    if sequence not in contents.advanced:
        return [f"SELECT setval({sequence}, seqstart, false) FROM pg_sequence WHERE seqrelid = {sequence}"]
    last, called, logged = contents.advanced[sequence]
    # nextval() logs 32 values in advance and then counts down in log_cnt. setval() sets log_cnt to zero, so nextval()
    # has to be called as often as in the template.
    used = _LOGGED_AHEAD + 1 - logged
    if not (called and 0 < used <= _LOGGED_AHEAD):
        return [f"SELECT setval({sequence}, {last}, {str(called).lower()})"]
    # With CACHE, nextval() takes several values at once, and would not stop at the last one of the template.
    back = f"CASE seqcache WHEN 1 THEN {used - 1} * seqincrement ELSE 0 END"
    return [
        f"SELECT setval({sequence}, {last} - {back}, seqcache > 1) FROM pg_sequence WHERE seqrelid = {sequence}",
        f"SELECT count(nextval({sequence}::regclass)) FROM pg_sequence, generate_series(1, {used})"
        f" WHERE seqrelid = {sequence} AND seqcache = 1",
    ]

"""How many sessions a database has had, and has.

A function over a connection to another database; nothing here waits.
"""

from __future__ import annotations

from sqlalchemy import Connection

from elefast.postgres.sql import rows

__all__ = ["last_reset", "session_counts"]


def last_reset(oid: str) -> str:
    """An expression in SQL: when the statistics of the database `oid` were reset, as text; empty if they never were."""
    return f"coalesce(extract(epoch from pg_stat_get_db_stat_reset_time({oid}))::text, '')"


def session_counts(connection: Connection, name: str) -> tuple[int, int, str]:
    """The client sessions that database `name` ever had, those that it has now, and since when they are counted.

    The first number is right at once from PostgreSQL 15 on; 14 counts with a delay of up to half a second.
    """
    # What a session is, only its own role and superusers are told; that it has a role, everybody. Autovacuum has none.
    found = rows(
        connection,
        f"""
        select pg_stat_get_db_sessions(oid),
               (select count(*) from pg_stat_activity a where a.datid = d.oid and usesysid is not null),
               {last_reset("oid")}
        from pg_database d where datname = :name
        """,
        name=name,
    )
    return (int(found[0][0]), int(found[0][1]), str(found[0][2])) if found else (0, 0, "")

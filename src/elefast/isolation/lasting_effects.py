"""Which SQL leaves something in a session that no rollback undoes, as far as its text tells.

A session may serve another test only if it executed no such SQL. In doubt a statement counts as such.
"""

from __future__ import annotations

import re
from functools import lru_cache

from elefast.postgres.sql import literal

__all__ = ["lasting_functions_condition", "may_outlast_rollback"]

# Functions that change a session for good, or run SQL from a string; commands with the same effect.
_WORDS = (
    "set_config|setseed|dblink[a-z_]*|pg_replication_origin[a-z_]*|pg_stat_reset[a-z_]*|ts_stat|ts_rewrite"
    "|[a-z]+_to_xml[a-z_]*|load|prepare|execute|listen"
)
# A custom setting. After its first use PostgreSQL keeps it as an empty one, whatever is rolled back.
_CUSTOM = r"set\s+(?:local\s+|session\s+)?[\w\"]+\.[\w\"]+"

# The beginning of a statement that PostgreSQL rolls back as a whole, except for the functions and settings above.
_ROLLED_BACK = re.compile(
    r"[\s(]*(?:"
    r"(?:select|values|table|show|with|fetch|insert|update|delete|merge|truncate|lock|savepoint|release|rollback\s+to"
    r"|set\s+constraints|(?:create|alter|drop)\s+(?:unique\s+)?(?:table|index|sequence|schema|type))\b"
    r"|set\s+(?:local\s+|session\s+)?\w+\s*(?:=|\bto\b))",
    re.IGNORECASE,
)
_LASTS = re.compile(rf"\b(?:{_WORDS})\b|\b{_CUSTOM}|;\s*\S", re.IGNORECASE)


def lasting_functions_condition() -> str:
    """A condition in SQL: a function of the database may leave something in the session that calls it.

    It covers functions that no statement names, because triggers, policies and defaults call functions as well.
    Functions in C, which belong to extensions, count as harmless, except for those of dblink.
    """
    words = literal(rf"\y({_WORDS})\y|\y{_CUSTOM}")
    custom_setting = literal(r"[a-z]\.[a-z]")
    return f"""
        EXISTS (
            SELECT FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
            WHERE p.oid >= 16384 AND (
                l.lanname NOT IN ('c', 'internal', 'sql', 'plpgsql')
                OR p.proconfig::text ~ {custom_setting}
                OR concat(p.prosrc, ' ', pg_get_function_sqlbody(p.oid)) ~* {words}
            )
        )
    """


@lru_cache(maxsize=1024)
def may_outlast_rollback(statement: str) -> bool:
    """Whether `statement` may leave something in its session that a rollback does not undo."""
    return not _ROLLED_BACK.match(statement) or bool(_LASTS.search(statement))

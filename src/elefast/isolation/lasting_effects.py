"""What leaves something in a session that no rollback undoes, as far as the text of SQL tells.

A session may serve another test only if nothing of this kind was done in it; in doubt it is taken to have been done.
"""

from __future__ import annotations

import re
from functools import lru_cache

from elefast.postgres.sql import literal

__all__ = ["functions_that_last", "may_last"]

# Functions that change a session for good, or run text that may; commands with the same effect; custom settings.
_WORDS = (
    "set_config|setseed|dblink[a-z_]*|pg_replication_origin[a-z_]*|pg_stat_reset[a-z_]*|ts_stat|ts_rewrite"
    "|[a-z]+_to_xml[a-z_]*|load|prepare|execute|listen"
)
_CUSTOM = r"set\s+(?:local\s+|session\s+)?[\w\"]+\.[\w\"]+"

# What begins a statement of which PostgreSQL rolls all back, but for what the words above name.
_ROLLED_BACK = re.compile(
    r"[\s(]*(?:"
    r"(?:select|values|table|show|with|fetch|insert|update|delete|merge|truncate|lock|savepoint|release|rollback\s+to"
    r"|set\s+constraints|(?:create|alter|drop)\s+(?:unique\s+)?(?:table|index|sequence|schema|type))\b"
    r"|set\s+(?:local\s+|session\s+)?\w+\s*(?:=|\bto\b))",
    re.IGNORECASE,
)
_LASTS = re.compile(rf"\b(?:{_WORDS})\b|\b{_CUSTOM}|;\s*\S", re.IGNORECASE)


def functions_that_last() -> str:
    """A condition in SQL: a function of the database may leave something in the session that calls it.

    Statements call functions by triggers, policies and defaults as well. Functions in C, of extensions, are taken to
    leave nothing, but for those of dblink.
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
def may_last(statement: str) -> bool:
    """Whether `statement` may leave something in its session that a rollback does not undo."""
    return not _ROLLED_BACK.match(statement) or bool(_LASTS.search(statement))

"""Marks the roles and tablespaces that a build makes, in the transaction in which it makes them.

It sees statements that run through SQLAlchemy, and those of SQL files. Roles and tablespaces that a program, or a
driver without SQLAlchemy, makes get no mark, and so elefast never drops them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, event

from elefast.postgres.cluster_objects import CREATE_STATEMENT
from elefast.postgres.sql import identifier, literal

__all__ = ["Marking", "mark_all"]

_EXISTING = """
    select 'role', rolname::text, oid::text, shobj_description(oid, 'pg_authid') from pg_roles
    union all
    select 'tablespace', spcname::text, oid::text, shobj_description(oid, 'pg_tablespace') from pg_tablespace
"""

Run = Callable[[str], list[Any]]
"""A function that runs a statement on the observed connection, and returns its rows."""


class Marking:
    """Marks the roles and tablespaces of one statement; create it before the statement runs.

    Args:
        statement: The text of the statement, which matches `CREATE_STATEMENT`.
        run: Runs statements on the same connection.
    """

    def __init__(self, statement: str, run: Run) -> None:
        self._statement = statement.lower()
        self._run = run
        self._before = {(row[0], row[2]) for row in run(_EXISTING)}

    def finish(self, mark: str) -> None:
        """Set the comment `mark` on roles and tablespaces that the statement has made, unless they have a comment.

        Does nothing for a role that is no superuser.
        """
        if self._run("select current_setting('is_superuser')")[0][0] != "on":
            return
        for kind, name, oid, comment in self._run(_EXISTING):
            # Another session may have made one in the meantime. Its name is not in this statement.
            if (kind, oid) not in self._before and comment is None and name.lower() in self._statement:
                self._run(f"COMMENT ON {kind.upper()} {identifier(name)} IS {literal(mark)}")


def mark_all(mark: str) -> None:
    """Mark roles and tablespaces that any engine of this process makes from now on; there is no way to stop it."""

    def before(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        connection.info.pop("elefast_marking", None)
        if CREATE_STATEMENT.search(statement):
            # In a transaction that has failed, the statement itself fails next, and its error has the reason.
            with suppress(Exception):
                connection.info["elefast_marking"] = Marking(statement, _runner(connection))

    def after(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        marking: Marking | None = connection.info.pop("elefast_marking", None)
        if marking is not None:
            marking.finish(mark)

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)


def _runner(connection: Any) -> Run:
    def run(statement: str) -> list[Any]:
        cursor = connection.connection.cursor()
        try:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            cursor.close()

    return run

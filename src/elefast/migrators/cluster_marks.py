"""Marks the roles and tablespaces that a build makes, in the transaction in which it makes them.

Seen are statements that run through SQLAlchemy, and those of SQL files. What is made in another way, such as by a
program or a driver without SQLAlchemy, gets no mark, and so is never dropped.
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
"""Runs a statement on the connection that is watched; its rows."""


class Marking:
    """One statement that may make something; see `CREATE_STATEMENT`.

    Args:
        statement: Its text.
        run: Runs statements on the same connection.
    """

    def __init__(self, statement: str, run: Run) -> None:
        self._statement = statement.lower()
        self._run = run
        self._before = {(row[0], row[2]) for row in run(_EXISTING)}

    def finish(self, mark: str) -> None:
        """Give what the statement made the comment `mark`, unless it has one."""
        if self._run("select current_setting('is_superuser')")[0][0] != "on":
            return
        for kind, name, oid, comment in self._run(_EXISTING):
            # Another session may have made something in the meantime; its name would not be in this statement.
            if (kind, oid) not in self._before and comment is None and name.lower() in self._statement:
                self._run(f"COMMENT ON {kind.upper()} {identifier(name)} IS {literal(mark)}")


def mark_all(mark: str) -> None:
    """Mark what all engines of this process make from now on; cannot be taken back."""

    def before(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        connection.info.pop("elefast_marking", None)
        if CREATE_STATEMENT.search(statement):
            # On a transaction that has failed the statement fails as well, and says why.
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

"""The grants of a role that the project declares, in the template, after the migrator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psycopg

from elefast.errors import MigrationError
from elefast.migrators.sql import Sql
from elefast.migrators.steps import BuildTarget
from elefast.postgres.connections.engines import raw_connection
from elefast.postgres.sql import identifier
from elefast.templates.fingerprint import Input

__all__ = ["Grants"]

_RIGHTS = {
    "read": {"TABLES": "SELECT", "SEQUENCES": "SELECT"},
    "write": {"TABLES": "SELECT, INSERT, UPDATE, DELETE", "SEQUENCES": "USAGE, SELECT"},
}

# An owner has all rights already. System schemas and those of temporary tables are left out.
_SCHEMAS = """
    select nspname::text from pg_namespace n
    where nspname !~ '^pg_' and nspname <> 'information_schema'
    order by 1
"""
_OBJECTS = """
    select n.nspname::text, c.relname::text, case c.relkind when 'S' then 'SEQUENCES' else 'TABLES' end
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and nspname !~ '^pg_' and nspname <> 'information_schema'
      and not exists (select from pg_roles r where r.oid = c.relowner and r.rolname = %(role)s)
    order by 1, 2
"""


@dataclass(frozen=True, slots=True)
class Grants:
    """The rights of one role.

    Args:
        role: The name of the role, which exists.
        level: ``read``, ``write``, or empty where SQL files have the rights.
        files: Paths and globs of SQL files, relative to the project directory.
    """

    role: str
    level: str
    files: tuple[str, ...] = ()
    runs_project_code: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The configuration key, for errors."""
        return f"roles.{self.role}.grants"

    @property
    def label(self) -> str:
        return f"grants of {self.role}: {self.level or ', '.join(self.files)}"

    @property
    def _sql(self) -> Sql:
        return Sql(self.files, self.key)

    def inputs(self, root: Path) -> Sequence[Input]:
        return [Input.of(self.key, self.level)] if self.level else self._sql.inputs(root)

    def declared(self, root: Path) -> Sequence[Path]:
        return self._sql.declared(root)

    def why_not_kept(self, root: Path) -> str:
        return ""

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        return self.inputs(root), self.why_not_kept(root)

    def run(self, target: BuildTarget) -> None:
        if self.level:
            self._grant(target)
        else:
            self._sql.run(target)

    def _grant(self, target: BuildTarget) -> None:
        to = identifier(self.role)
        try:
            with raw_connection(target.url, owned=target.owned) as connection, connection.transaction():
                for statement in _statements(connection, self.role, self.level):
                    connection.execute(f"{statement} TO {to}".encode())
        except psycopg.Error as error:
            raise MigrationError(
                f'the rights of role "{self.role}" could not be granted ({self.key} = "{self.level}"): '
                f"{error.diag.message_primary or error}",
                code="sql-failed",
            ) from error


def _statements(connection: psycopg.Connection, role: str, level: str) -> list[str]:
    """The statements without their end, ``TO role``."""
    rights = _RIGHTS[level]
    connection.execute(b"SET LOCAL search_path = pg_catalog")
    found: list[str] = []
    database, connects = connection.execute(
        "select current_database()::text, has_database_privilege(%s, current_database(), 'CONNECT')", [role]
    ).fetchone() or ("", True)
    if not connects:
        found.append(f"GRANT CONNECT ON DATABASE {identifier(database)}")
    for (schema,) in connection.execute(_SCHEMAS).fetchall():
        found.append(f"GRANT USAGE ON SCHEMA {identifier(schema)}")
    objects: dict[tuple[str, str], list[str]] = {}
    for schema, name, kind in connection.execute(_OBJECTS, {"role": role}).fetchall():
        objects.setdefault((schema, kind), []).append(f"{identifier(schema)}.{identifier(name)}")
    for (_, kind), names in objects.items():
        word = "SEQUENCE" if kind == "SEQUENCES" else "TABLE"
        found.append(f"GRANT {rights[kind]} ON {word} {', '.join(names)}")
    return found

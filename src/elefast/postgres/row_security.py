"""Row-level security of a database: which tables have policies, and to whom they do not apply.

A superuser, a role with BYPASSRLS and, unless it is forced, the owner of a table see all rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self, cast

from sqlalchemy import Connection

from elefast.postgres.sql import rows

__all__ = ["RowSecurity", "read_row_security"]


class RowSecurity(NamedTuple):
    """The tables of a database with row-level security and at least one policy.

    Args:
        tables: How many there are.
        owners: The owners of those tables whose policies do not apply to the owner.
    """

    tables: int = 0
    owners: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As values for JSON."""
        return {"tables": self.tables, "owners": list(self.owners)}

    @classmethod
    def from_json(cls, values: object) -> Self:
        """Restore it from the values of `to_json`; no tables from anything else."""
        if not isinstance(values, dict):
            return cls()
        known = cast("dict[str, Any]", values)
        return cls(int(known["tables"]), tuple(known["owners"]))


def read_row_security(connection: Connection) -> RowSecurity:
    """The row-level security of the database of `connection`."""
    found = rows(
        connection,
        """
        select r.rolname::text, c.relforcerowsecurity from pg_class c join pg_roles r on r.oid = c.relowner
        where c.relrowsecurity and exists (select from pg_policy p where p.polrelid = c.oid)
        """,
    )
    return RowSecurity(len(found), tuple(sorted({owner for owner, forced in found if not forced})))

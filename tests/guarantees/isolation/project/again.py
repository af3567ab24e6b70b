"""Which kinds of dirt are undone in the database itself, so that the next test has it again."""

from __future__ import annotations

__all__ = ["MAY_COME_BACK", "PUT_BACK"]

PUT_BACK = frozenset(
    """
    nothing unlogged nextval-once nextval-33-times setval set listen prepared-statement held-cursor
    """.split()
)
"""By the names of `dirt`; after each other one, but for those of `MAY_COME_BACK`, the database goes."""

MAY_COME_BACK = frozenset(["insert", "update", "delete", "deferred-constraint"])
"""Tables with rows are refilled from the second time on, where the driver is psycopg."""

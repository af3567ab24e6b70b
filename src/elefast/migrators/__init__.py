"""How a schema gets into a template: one module for each kind of migrator, and `Plan`, which puts them together.

It is given plain values, and does not know where they were configured.
Nothing is imported here before it is used, because the interpreter that runs code of a project must first
be made ready to watch it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elefast.runtime.lazy import lazy

if TYPE_CHECKING:
    from elefast.migrators.alembic.step import Alembic
    from elefast.migrators.callable import Function
    from elefast.migrators.command import Command
    from elefast.migrators.metadata import Metadata
    from elefast.migrators.plan import Plan
    from elefast.migrators.sql import Sql
    from elefast.migrators.steps import Step

__all__ = ["Alembic", "Command", "Function", "Metadata", "Plan", "Sql", "Step"]

_HOMES = {
    "Alembic": "alembic.step",
    "Command": "command",
    "Function": "callable",
    "Metadata": "metadata",
    "Step": "steps",
    "Plan": "plan",
    "Sql": "sql",
}


__getattr__ = lazy(__name__, _HOMES)

"""How a schema gets into an empty database: one step for each kind of migrator, and `Plan`, which runs the steps.

Steps that run Python code of the project run in a separate interpreter (`sandbox`), which records the files
and variables that the code uses.

The room gets plain values. It must not know where they were configured, nor pools, nor pytest.
Nothing is imported here before it is used: the interpreter that runs code of the project must first be able to
observe imports.

    plan = Plan(root=Path.cwd(), migrator=Alembic("alembic.ini"), seeds=["seeds/*.sql"])
    plan.inputs()      # what the template depends on, for its key
    plan.build(url)    # runs all steps in the empty database at `url`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elefast.runtime.lazy import lazy

if TYPE_CHECKING:
    from elefast.migrators.alembic.step import Alembic
    from elefast.migrators.callable import Function
    from elefast.migrators.command import Command
    from elefast.migrators.metadata import Metadata
    from elefast.migrators.plan import Plan, Scenario
    from elefast.migrators.sql import Sql
    from elefast.migrators.steps import Step

__all__ = ["Alembic", "Command", "Function", "Metadata", "Plan", "Scenario", "Sql", "Step"]

_HOMES = {
    "Alembic": "alembic.step",
    "Command": "command",
    "Function": "callable",
    "Metadata": "metadata",
    "Step": "steps",
    "Plan": "plan",
    "Scenario": "plan",
    "Sql": "sql",
}


__getattr__ = lazy(__name__, _HOMES)

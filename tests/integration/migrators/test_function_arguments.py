"""A function gets what the annotation of its parameter names, and all that it does arrives in the template."""

from __future__ import annotations

import pytest
from sqlalchemy import URL, create_engine

from elefast.errors import ConfigurationError, MigrationError
from elefast.migrators import Function, Plan
from tests.integration.migrators.migrator_support import Project, query, tables

_ARGUMENTS = {
    "nothing": ("def create(given):", "given.exec_driver_sql({sql!r})"),
    "Connection": ("def create(given: Connection):", "given.exec_driver_sql({sql!r})"),
    "Session": ("def create(given: Session):", "given.execute(text({sql!r}))"),
    "Engine": ("def create(given: Engine):", "with given.begin() as c: c.exec_driver_sql({sql!r})"),
    "Engine as text": (
        "def create(given: 'sqlalchemy.Engine'):",
        "with given.begin() as c: c.exec_driver_sql({sql!r})",
    ),
    "async nothing": ("async def create(given):", "await given.exec_driver_sql({sql!r})"),
    "AsyncConnection": ("async def create(given: AsyncConnection):", "await given.exec_driver_sql({sql!r})"),
    "AsyncSession": ("async def create(given: AsyncSession):", "await given.execute(text({sql!r}))"),
    "AsyncEngine": (
        "async def create(given: AsyncEngine, /, echo=False):",
        "async with given.begin() as c: await c.exec_driver_sql({sql!r})",
    ),
    "async with an Engine": (
        "async def create(given: Engine):",
        "with given.begin() as c: c.exec_driver_sql({sql!r})",
    ),
    "a subclass": ("def create(given: Mine):", "given.execute(text({sql!r}))"),
}
_IMPORTS = """\
from sqlalchemy import Connection, Engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

class Mine(Session):
    pass

"""


@pytest.mark.parametrize("kind", _ARGUMENTS)
def test_by_annotation(project: Project, template: URL, kind: str) -> None:
    """Sync and async; committed whether the function did it or not."""
    head, body = _ARGUMENTS[kind]
    project.write("creating.py", f"{_IMPORTS}{head}\n    {body.format(sql='CREATE TABLE made (id int)')}\n")

    Plan(root=project.root, migrator=Function("creating:create")).build(template)

    assert tables(template) == ["made"]


def test_names_that_are_imported_for_types_only(project: Project, template: URL) -> None:
    """With ``from __future__ import annotations`` they cannot be evaluated."""
    project.write(
        "creating.py",
        """\
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from sqlalchemy import Engine

        class Creator:
            def __call__(self, engine: Engine) -> None:
                with engine.begin() as connection:
                    connection.exec_driver_sql("CREATE TABLE made (id int)")

        create = Creator()
        """,
    )

    Plan(root=project.root, migrator=Function("creating:create")).build(template)

    assert tables(template) == ["made"]


def test_an_engine_leads_to_the_template_only(project: Project, template: URL) -> None:
    """An engine that is made from it for another database is refused."""
    project.write(
        "creating.py",
        """\
        from sqlalchemy import Engine, create_engine

        def create(engine: Engine) -> None:
            create_engine(engine.url.set(database="postgres")).connect()
        """,
    )
    with pytest.raises(MigrationError, match='database "postgres"'):
        Plan(root=project.root, migrator=Function("creating:create")).build(template)


def test_a_plain_function_that_asks_for_something_to_await(project: Project, template: URL) -> None:
    """It could do nothing with it."""
    project.write(
        "creating.py", "from sqlalchemy.ext.asyncio import AsyncEngine\n\ndef create(engine: AsyncEngine): pass\n"
    )
    with pytest.raises(ConfigurationError, match="it takes an AsyncEngine, which it cannot await"):
        Plan(root=project.root, migrator=Function("creating:create")).build(template)


def test_on_a_given_connection(project: Project, template: URL) -> None:
    """A session works on it, and an engine cannot be had."""
    project.write(
        "given_connection.py",
        f"{_IMPORTS}"
        "def by_session(session: Session):\n    session.execute(text('CREATE TABLE made (id int)'))\n\n"
        "def by_engine(engine: Engine): pass\n",
    )
    engine = create_engine(template)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE before (id int)")
        Plan(root=project.root, migrator=Function("given_connection:by_session")).migrate(connection)
        with pytest.raises(MigrationError, match="needs connections of its own"):
            Plan(root=project.root, migrator=Function("given_connection:by_engine")).migrate(connection)
        assert query(template, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
        connection.commit()
    engine.dispose()
    assert tables(template) == ["before", "made"]

"""Creates the objects of a ``MetaData`` in a database, and finds the inputs of a template of it.

SQLAlchemy's own ``create_all`` does not create schemas. The inputs are the DDL that the objects compile to, and the
listeners of DDL events. They are known without running anything, so no build has to be observed.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from elefast.templates import ddl
from elefast.templates.code_digest import OpaqueError
from elefast.templates.fingerprint import Input

__all__ = ["create_all", "describe", "inputs", "is_empty", "why_opaque"]


def create_all(connection: Connection, metadata: MetaData) -> None:
    """Create the schemas that `metadata` uses, and then all its objects.

    Args:
        connection: A connection to a database that may have some of the objects. The work is not committed.
        metadata: Tables, types and sequences.
    """
    for schema in ddl.schemas(metadata):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    metadata.create_all(connection)


def inputs(metadata: MetaData) -> list[Input] | None:
    """The inputs of `create_all`: compiled DDL, and listeners of DDL events.

    Returns:
        The inputs; None where an input is unknown, for the reason that `why_opaque` gives.
    """
    found, opaque = describe(metadata)
    return None if opaque else found


def why_opaque(metadata: MetaData) -> str:
    """Which input of `metadata` is unknown, and why; empty where all are known."""
    return describe(metadata)[1]


def describe(metadata: MetaData) -> tuple[list[Input], str]:
    """The known inputs, and the reason for the first unknown one; empty where all are known."""
    found: list[Input] = []
    opaque = ""
    for item in _inputs(metadata):
        if isinstance(item, Input):
            found.append(item)
        else:
            opaque = opaque or item
    return found, opaque


def is_empty(metadata: MetaData) -> bool:
    """Whether it has no table, type or sequence, and no listener that could create one."""
    return not any(True for _ in ddl.statements(metadata)) and not any(True for _ in ddl.listeners(metadata))


def _inputs(metadata: MetaData) -> Iterator[Input | str]:
    """Each input, or the reason why it is unknown."""
    try:
        for label, text in ddl.statements(metadata):
            yield Input.of(label, text)
    except SQLAlchemyError as error:
        yield f"DDL that only compiles with a server: {error}"
    for number, (label, listener) in enumerate(ddl.listeners(metadata)):
        try:
            yield Input.of(f"{label} ({number})", ddl.listener_digest(listener))
        except OpaqueError as error:
            yield f"{label}: {error}"

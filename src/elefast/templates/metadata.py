"""A ``MetaData`` in a database: everything that it describes, and everything that this depends on.

SQLAlchemy's own ``create_all`` leaves out the schemas; and what it would do is known by the DDL that it
compiles to and by the listeners to DDL events, so nothing has to be observed when it runs.
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
    """Create everything that `metadata` describes, and first the schemas that it is in.

    Args:
        connection: An empty database, or one where only some of it is there. It is not committed.
        metadata: Tables with all that belongs to them, types and sequences, in whatever schemas.
    """
    for schema in ddl.schemas(metadata):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    metadata.create_all(connection)


def inputs(metadata: MetaData) -> list[Input] | None:
    """Everything that decides what `create_all` does: compiled DDL and listeners of DDL events.

    Returns:
        The inputs, or None where something of it cannot be known; `why_opaque` says what.
    """
    found, opaque = describe(metadata)
    return None if opaque else found


def why_opaque(metadata: MetaData) -> str:
    """What of `metadata` cannot be known; empty where everything can."""
    return describe(metadata)[1]


def describe(metadata: MetaData) -> tuple[list[Input], str]:
    """Everything that can be known, and the first thing that cannot; empty where there is none."""
    found: list[Input] = []
    opaque = ""
    for part in _parts(metadata):
        if isinstance(part, Input):
            found.append(part)
        else:
            opaque = opaque or part
    return found, opaque


def is_empty(metadata: MetaData) -> bool:
    """Whether it describes nothing: no table, type or sequence, and no listener that could make one."""
    return not any(True for _ in ddl.statements(metadata)) and not any(True for _ in ddl.listeners(metadata))


def _parts(metadata: MetaData) -> Iterator[Input | str]:
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

"""The DDL of a ``MetaData`` as text, compiled without a server and without running any listener.

It knows SQLAlchemy's constructs. It must not know what the text is for; see `elefast.templates.metadata`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from sqlalchemy import ARRAY, MetaData, Sequence, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import CreateDomainType, CreateEnumType
from sqlalchemy.dialects.postgresql.named_types import NamedType
from sqlalchemy.schema import (
    AddConstraint,
    CreateIndex,
    CreateSchema,
    CreateSequence,
    CreateTable,
    ExecutableDDLElement,
    SetColumnComment,
    SetConstraintComment,
    SetTableComment,
)
from sqlalchemy.types import SchemaType, TypeDecorator

from elefast.runtime.hashing import digest
from elefast.templates.code_digest import code_digest

__all__ = ["listener_digest", "listeners", "schemas", "statements"]

_DIALECT: Any = postgresql.dialect()  # type: ignore[no-untyped-call]


def statements(metadata: MetaData) -> Iterator[tuple[str, str]]:
    """The statements that ``create_all`` would execute, without those of listeners; each a label and the DDL.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: A statement does not compile.
    """
    for schema in schemas(metadata):
        yield f"schema {schema}", _compiled(CreateSchema(schema))
    for type_ in _types(metadata):
        create = CreateDomainType if isinstance(type_, postgresql.DOMAIN) else CreateEnumType
        yield f"type {_named(type_)}", _compiled(create(type_))
    for sequence in _sequences(metadata):
        yield f"sequence {_named(sequence)}", _compiled(CreateSequence(sequence))
    for _, table in sorted(metadata.tables.items()):
        yield f"table {table.key}", "\n".join(_table(table))


def schemas(metadata: MetaData) -> list[str]:
    """The schemas of tables, types and sequences, sorted; without the default one."""
    owners: list[Any] = [*metadata.tables.values(), *_types(metadata), *_sequences(metadata)]
    return sorted({str(owner.schema) for owner in owners if owner.schema})


def listeners(metadata: MetaData) -> Iterator[tuple[str, Any]]:
    """The project's own listeners to the creation of objects: a label and the listener of each."""
    for label, target in _targets(metadata):
        for name in ("before_create", "after_create"):
            for listener in getattr(target.dispatch, name):
                if _type_behind(listener) is None:
                    yield f"{name} of {label}", listener
    for label, element in _conditional(metadata):
        if element.callable_ is not None:
            yield f"ddl_if of {label}", element.callable_


def listener_digest(listener: Any) -> str:
    """The digest of a listener: of the text of DDL, of the code of a function.

    Raises:
        elefast.templates.code_digest.OpaqueError: The digest of the function cannot be known.
    """
    if isinstance(listener, ExecutableDDLElement):
        element: Any = listener
        condition = getattr(element, "_ddl_if", None)
        callable_ = getattr(condition, "callable_", None)
        context: dict[str, Any] = getattr(element, "context", None) or {}
        return digest(
            str(getattr(element, "statement", None) or _compiled(element)),
            repr(sorted(context.items())),
            str(getattr(condition, "dialect", "")),
            code_digest(callable_) if callable_ else "",
        )
    return code_digest(listener)


def _table(table: Table) -> Iterator[str]:
    creator: Any = getattr(table, "_creator_ddl", None)  # SQLAlchemy 2.1: a view, or CREATE TABLE AS
    yield _compiled(creator if creator is not None else CreateTable(table))
    for constraint in sorted(table.foreign_key_constraints, key=lambda item: str(item.name)):
        if constraint.use_alter:
            yield _compiled(AddConstraint(constraint, isolate_from_table=False))
    for index in sorted(table.indexes, key=lambda item: str(item.name)):
        yield _compiled(CreateIndex(index))
    if table.comment is not None:
        yield _compiled(SetTableComment(table))
    for column in table.columns:
        if column.comment is not None:
            yield _compiled(SetColumnComment(column))
    for item in sorted(table.constraints, key=lambda item: str(item.name)):
        if item.comment is not None:
            yield _compiled(SetConstraintComment(item))
    # Constraints and indexes with ddl_if() for a dialect are no part of the statement, so their dialects are added.
    for label, condition in _table_conditions(table):
        yield f"{label} if {condition.dialect!r}"


def _compiled(element: Any) -> str:
    return str(element.compile(dialect=_DIALECT))


def _named(item: Any) -> str:
    return f"{item.schema}.{item.name}" if item.schema else str(item.name)


def _sequences(metadata: MetaData) -> list[Sequence]:
    found: dict[str, Sequence] = {}
    for sequence in getattr(metadata, "_sequences", {}).values():
        found[_named(sequence)] = sequence
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.default, Sequence):
                found[_named(column.default)] = column.default
    return [found[name] for name in sorted(found)]


def _types(metadata: MetaData) -> list[NamedType]:
    """Enums and domains to create, including those that no column uses."""
    found: dict[str, NamedType] = {}
    for table in metadata.tables.values():
        for column in table.columns:
            _collect(column.type, found)
    for target in (metadata, *metadata.tables.values()):
        for listener in target.dispatch.before_create:
            if (type_ := _type_behind(listener)) is not None:
                _collect(type_, found)
    return [found[name] for name in sorted(found)]


def _collect(type_: Any, found: dict[str, NamedType]) -> None:
    implementation: Any = type_.dialect_impl(_DIALECT)
    while isinstance(implementation, TypeDecorator):
        inner: Any = implementation.impl_instance
        implementation = inner.dialect_impl(_DIALECT)
    if isinstance(implementation, ARRAY):
        _collect(implementation.item_type, found)  # pyright: ignore[reportUnknownMemberType]
    elif isinstance(implementation, NamedType) and getattr(implementation, "create_type", True):
        found[_named(implementation)] = implementation
        if isinstance(implementation, postgresql.DOMAIN):
            _collect(implementation.data_type, found)


def _type_behind(listener: Any) -> SchemaType | None:
    """The type that a listener belongs to: SQLAlchemy itself creates enums and domains by listeners."""
    while isinstance(listener, functools.partial):
        listener = listener.func
    owner = getattr(listener, "__self__", None) or getattr(listener, "target", None)
    return owner if isinstance(owner, SchemaType) else None


def _targets(metadata: MetaData) -> Iterator[tuple[str, Any]]:
    yield "the metadata", metadata
    for _, table in sorted(metadata.tables.items()):
        yield f"table {table.key}", table
        for index in sorted(table.indexes, key=lambda item: str(item.name)):
            yield f"index {index.name}", index
        # Events of foreign keys that are added later, by use_alter or because tables refer to each other.
        for constraint in sorted(table.foreign_key_constraints, key=lambda item: str(item.name)):
            yield f"foreign key {constraint.name} of {table.key}", constraint
    for type_ in _types(metadata):
        yield f"type {_named(type_)}", type_
    for sequence in _sequences(metadata):
        yield f"sequence {_named(sequence)}", sequence


def _conditional(metadata: MetaData) -> Iterator[tuple[str, Any]]:
    for _, table in sorted(metadata.tables.items()):
        yield from _table_conditions(table)


def _table_conditions(table: Table) -> Iterator[tuple[str, Any]]:
    """The constraints and indexes with ``ddl_if()``, each a label and its condition."""
    items: list[Any] = [*table.constraints, *table.indexes]
    for item in sorted(items, key=lambda item: str(item.name)):
        if (condition := getattr(item, "_ddl_if", None)) is not None:
            yield f"{type(item).__name__} {item.name} of {table.key}", condition

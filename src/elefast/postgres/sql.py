"""SQL text that is safe to build from names, and the two ways to run it over any driver.

``CREATE DATABASE`` and its like take no parameters, so names must be quoted into the text, and the
text must reach the driver as it is: no ``:name`` and no ``%`` in it may be taken for a parameter.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, Connection, text

__all__ = ["execute", "identifier", "literal", "prepared_rows", "rows", "scalar"]


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """`value` as a string literal, whatever ``standard_conforming_strings`` is."""
    quoted = value.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in value else f"'{quoted}'"


def execute(connection: Connection, statement: str) -> None:
    """Run `statement` to the letter, without parameters."""
    if "%" not in statement:
        _run(connection, statement)
        return
    # DDL() is a %-template whose result is escaped for the driver at hand (pg8000 and psycopg2 want %%).
    connection.execute(DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]  # as SQLAlchemy has it


def rows(connection: Connection, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of `query`, which may name `parameters` as ``:name``."""
    if not parameters:
        if "%" not in query:
            return _run(connection, query)
        query = query.replace(":", r"\:")
    return [tuple(row) for row in connection.execute(text(query), parameters)]


def prepared_rows(connection: Connection, query: str, *arguments: str) -> list[tuple[Any, ...]]:
    """The rows of `query`, which is asked often, and has `arguments` as ``$1`` and so on.

    It is planned once for each connection, which takes longer than to answer it. It may only be about what
    PostgreSQL always has, since a plan would outlive the rest.
    """
    values = [literal(argument) for argument in arguments]
    driver: Any = connection.connection.driver_connection
    if getattr(driver, "prepare_threshold", 0) is not None:
        # Not psycopg, or one that prepares statements itself, and now and then gives up all that there are.
        for number, value in enumerate(values, 1):
            query = query.replace(f"${number}", value)
        return rows(connection, query)
    known: dict[str, str] = connection.info.setdefault("elefast", {})
    if query not in known:
        name = f"elefast_{len(known)}"
        execute(connection, f"PREPARE {name} AS {query}")
        known[query] = name
    return rows(connection, f"EXECUTE {known[query]}" + (f"({', '.join(values)})" if values else ""))


def scalar(connection: Connection, query: str, **parameters: Any) -> Any:
    """The first column of the first row of `query`, or None."""
    for row in rows(connection, query, **parameters):
        return row[0]
    return None


def _run(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """What SQLAlchemy does in the end, in half of its time: contexts, events and results' keys are for others."""
    anybody: Any = connection
    cursor = anybody.connection.cursor()
    try:
        cursor.execute(statement)
        found = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
    except Exception as error:
        # Wraps and raises it, and lets go of a connection that is lost.
        anybody._handle_dbapi_exception(error, statement, None, cursor, None)
        raise  # it has done so
    cursor.close()
    return found

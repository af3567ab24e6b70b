"""Quoting of names and literals in SQL, and running SQL over any driver.

``CREATE DATABASE`` and similar statements take no parameters, so names are quoted into their text. The text must reach
the driver unchanged: neither ``:name`` nor ``%`` in it is a parameter.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, Connection, text

__all__ = ["execute", "identifier", "literal", "prepared_rows", "rows", "scalar"]


def identifier(name: str) -> str:
    """`name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """`value` as a string literal that does not depend on ``standard_conforming_strings``."""
    quoted = value.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in value else f"'{quoted}'"


def execute(connection: Connection, statement: str) -> None:
    """Run `statement` unchanged, without parameters."""
    if "%" not in statement:
        _run(connection, statement)
        return
    # DDL() takes a %-template and escapes the result for the driver (pg8000 and psycopg2 expect %%).
    connection.execute(DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]  # as SQLAlchemy has it


def rows(connection: Connection, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of `query`, in which ``:name`` stands for a parameter."""
    if not parameters:
        if "%" not in query:
            return _run(connection, query)
        query = query.replace(":", r"\:")
    return [tuple(row) for row in connection.execute(text(query), parameters)]


def prepared_rows(connection: Connection, query: str, *arguments: str) -> list[tuple[Any, ...]]:
    """The rows of a query that runs often, as a prepared statement.

    It is planned once for each connection, because planning takes longer than running it. The query may only read
    catalogs and functions of PostgreSQL, which cannot be dropped while the connection has the plan.

    Args:
        connection: The connection, which keeps the plan.
        query: The query, in which ``$1`` and so on stand for `arguments`.
        arguments: Text.
    """
    values = [literal(argument) for argument in arguments]
    driver: Any = connection.connection.driver_connection
    if getattr(driver, "prepare_threshold", 0) is not None:
        # The driver is not psycopg, or prepares statements itself and at times deallocates all of them.
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
    """The first column of the first row of `query`, or None without a row."""
    for row in rows(connection, query, **parameters):
        return row[0]
    return None


def _run(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    """Run `statement` on a cursor of the driver, in half the time of SQLAlchemy's ``execute()``."""
    untyped: Any = connection
    cursor = untyped.connection.cursor()
    try:
        cursor.execute(statement)
        found = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
    except Exception as error:
        # SQLAlchemy wraps and raises the error, and invalidates a connection that is lost.
        untyped._handle_dbapi_exception(error, statement, None, cursor, None)
        raise  # for type checkers: the call above has raised
    cursor.close()
    return found

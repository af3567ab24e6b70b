"""Names and texts in SQL are what they were, over every driver, whatever the server takes a backslash for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from elefast.postgres import sql
from tests.robustness.properties.effort import examples
from tests.robustness.properties.tally import Tally

T = TypeVar("T")
Runner = Callable[[Callable[[Connection], T]], T]

_ODD = [
    "'",
    "''",
    "\\",
    "\\'",
    "'\\",
    "%",
    "%%",
    "%s",
    "%(a)s",
    ":a",
    "\\:a",
    "::",
    "{",
    "$1",
    "$$",
    "--",
    "/*",
    "E'",
    "\n",
    "?",
]
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.lists(
    st.sampled_from(_ODD), min_size=1, max_size=6
).map("".join)


@pytest.fixture(scope="module")
def runners(server_url: str) -> Generator[dict[str, Runner[list[tuple[object, ...]]]]]:
    """For each driver, something that runs work over a connection of it."""
    url = make_url(server_url)
    with ExitStack() as stack:
        found: dict[str, Runner[list[tuple[object, ...]]]] = {}
        for driver in ("psycopg", "psycopg2", "pg8000"):
            engine = create_engine(url.set(drivername=f"postgresql+{driver}"), isolation_level="AUTOCOMMIT")
            stack.callback(engine.dispose)
            connection = stack.enter_context(engine.connect())
            found[driver] = lambda work, connection=connection: work(connection)  # type: ignore[misc]
        runner = stack.enter_context(asyncio.Runner())
        for driver in ("asyncpg", "psycopg"):
            made = create_async_engine(url.set(drivername=f"postgresql+{driver}"), isolation_level="AUTOCOMMIT")
            stack.callback(lambda made=made: runner.run(made.dispose()))  # type: ignore[misc]
            opened = runner.run(made.connect().start())
            stack.callback(lambda opened=opened: runner.run(opened.close()))  # type: ignore[misc]
            found[f"async {driver}"] = lambda work, opened=opened: runner.run(opened.run_sync(work))  # type: ignore[misc]
        yield found


@pytest.mark.fault(
    "names and texts that look like quoting",
    how="they are a comment, a name and a parameter, over each driver and with each standard_conforming_strings",
)
@pytest.mark.comes_to("they come back as they were")
@given(
    _texts, _texts, st.booleans(), st.sampled_from(["psycopg", "psycopg2", "pg8000", "async asyncpg", "async psycopg"])
)
@examples(0.5)
def test_what_is_quoted_comes_back(
    tally: Tally,
    runners: dict[str, Runner[list[tuple[object, ...]]]],
    value: str,
    name: str,
    conforming: bool,
    driver: str,
) -> None:
    """A literal as a comment, an identifier as the name of a column, and a parameter beside them."""
    name = (name.encode()[:60].decode(errors="ignore") or "x") + ("x" if name.strip() == "" else "")

    def work(connection: Connection) -> list[tuple[object, ...]]:
        sql.execute(connection, f"SET standard_conforming_strings = {'on' if conforming else 'off'}")
        sql.execute(connection, "SET escape_string_warning = off")
        sql.execute(connection, "DROP TABLE IF EXISTS pg_temp.quoted")
        sql.execute(connection, f"CREATE TEMP TABLE quoted ({sql.identifier(name)} int)")
        sql.execute(connection, f"COMMENT ON TABLE quoted IS {sql.literal(value)}")
        sql.execute(connection, "SET standard_conforming_strings = on")
        return sql.rows(
            connection,
            "select attname, obj_description(attrelid), :value from pg_attribute "
            "where attrelid = 'pg_temp.quoted'::regclass and attnum > 0",
            value=value,
        )

    # An empty comment is none.
    assert runners[driver](work) == [(name, value or None, value)]
    tally.add("they come back as they were")

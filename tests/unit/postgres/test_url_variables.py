"""Entries of `export_env` and its kin: what they say of a database, and what they hold where there is none."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import URL, make_url

from elefast.postgres.url_variables import PARTS, PATTERN, ExportedVariable, MalformedEntryError
from elefast.postgres.urls import with_driver

SERVER = make_url("postgresql+psycopg://me:p%40s@127.0.0.1:5433/shop")
HOST = "nowhere.elefast.invalid"

VALUES = {
    "A": "postgresql+psycopg://me:p%40s@127.0.0.1:5433/shop",
    "A=postgresql": "postgresql://me:p%40s@127.0.0.1:5433/shop",
    "A=postgresql+asyncpg": "postgresql+asyncpg://me:p%40s@127.0.0.1:5433/shop",
    "A={url}": "postgresql+psycopg://me:p%40s@127.0.0.1:5433/shop",
    "A={host}": "127.0.0.1",
    "A={port}": "5433",
    "A={user}": "me",
    "A={password}": "p@s",
    "A={database}": "shop",
    "A=host={host} port={port} dbname={database}": "host=127.0.0.1 port=5433 dbname=shop",
    "A={url}?application_name=tests": "postgresql+psycopg://me:p%40s@127.0.0.1:5433/shop?application_name=tests",
    'A={{"host": "{host}"}}': '{"host": "127.0.0.1"}',
}


def url_for(driver: str) -> URL:
    """As a database of elefast's gives it."""
    return with_driver(SERVER, driver or "postgresql+psycopg")


@pytest.mark.parametrize(("entry", "value"), VALUES.items(), ids=VALUES)
def test_what_a_variable_holds(entry: str, value: str) -> None:
    """The whole URL, parts of it without escapes, and text around them."""
    variable = ExportedVariable.parse(entry)
    assert (variable.name, variable.value(url_for)) == ("A", value)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql+psycopg:///shop?host=/run/postgresql", "/run/postgresql", "5432"),
        ("postgresql+psycopg://[::1]:5433/shop", "::1", "5433"),
        ("postgresql+psycopg:///shop", "", "5432"),
    ],
)
def test_where_the_url_has_no_host(url: str, host: str, port: str) -> None:
    """A socket is named by its directory; a part that is not there is empty, as libpq takes it for unset."""
    variable = ExportedVariable.parse("A={host}|{port}|{user}|{password}")
    assert variable.value(lambda driver: with_driver(make_url(url), driver)) == f"{host}|{port}||"


@pytest.mark.parametrize("entry", VALUES)
def test_nothing_can_be_connected_to_where_there_is_no_database(entry: str) -> None:
    """The host never resolves, and nothing listens on the port; a port still is a number."""
    held = ExportedVariable.parse(entry).unreachable(HOST, "postgresql+psycopg")
    assert "127.0.0.1" not in held
    assert "shop" not in held
    if "host" in entry or "url" in entry or "{" not in entry:
        assert HOST in held
    if entry == "A={port}":
        assert held == "1"


def test_the_parts_of_a_variable() -> None:
    """Tools can ask what an entry is about."""
    assert ExportedVariable.parse("A").parts == {"url"}
    assert ExportedVariable.parse("A=postgresql+asyncpg").parts == {"url"}
    assert ExportedVariable.parse("A={host}:{port}").parts == {"host", "port"}
    assert ExportedVariable.parse("A={{{url}}}").parts == {"url"}


WRONG = [
    "",
    "1A",
    "A-B",
    "A=",
    "A=mysql",
    "A=text",
    "A={}",
    "A={0}",
    "A={host.x}",
    "A={host!r}",
    "A={host",
    "A=}",
    "A={{x}}",
    "A = {host}",
    " A",
]


@pytest.mark.parametrize("entry", WRONG)
def test_what_means_nothing(entry: str) -> None:
    """The schema refuses what the parser refuses."""
    assert not re.fullmatch(PATTERN, entry)
    with pytest.raises(MalformedEntryError):
        ExportedVariable.parse(entry)


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_in_the_schema(part: str) -> None:
    """All of them, and none with another case."""
    assert re.fullmatch(PATTERN, f"A={{{part}}}")
    assert not re.fullmatch(PATTERN, f"A={{{part.upper()}}}")


def test_a_long_entry_is_read_at_once() -> None:
    """No text makes the regular expression try everything."""
    with pytest.raises(MalformedEntryError):
        ExportedVariable.parse("A=" + "{host}{{" * 20_000 + "{")

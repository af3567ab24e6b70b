"""Names of databases: whatever they begin with, they prove that they are ours, and nothing else does."""

from __future__ import annotations

import asyncio
import string
import unicodedata
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from elefast import AsyncDatabaseServer, DatabaseServer
from elefast.postgres.names import CHECK_LENGTH, MAX_BYTES, OWNER_LENGTH, Kind, Name
from elefast.postgres.urls import dsn
from tests.robustness.properties.effort import LETTERS, examples
from tests.robustness.properties.tally import Tally

_DIGITS = string.digits + "abcdefghijklmnopqrstuv"
_owners = st.text(_DIGITS, min_size=OWNER_LENGTH, max_size=OWNER_LENGTH)
_serials = st.text(_DIGITS, min_size=1, max_size=8)
_LIKE_ONE = ["_d0123456789ab_1_00000000", "_d0123456789ab_1", "a_t0123456789ab_1_00000000_b", "_" * 70]
_ODD = [
    "'",
    '"',
    '"; DROP DATABASE postgres; --',
    "%s %(a)s %%",
    ":name",
    "\\",
    "$$",
    "\0",
    "a\0b",
    "{}",
    "\n\r\t",
    "\x7f",
    "tmpl\u0301",
    "🐘" * 20,
]
_prefixes = (
    st.text(LETTERS)
    | st.sampled_from([*_ODD, *_LIKE_ONE])
    | st.text(LETTERS, min_size=1, max_size=3).map(lambda it: it * 40)
)
_halves = st.text(st.characters(categories=["Cs"]), max_size=3)
_anything = st.tuples(_prefixes, _halves, _prefixes).map("".join) | _prefixes
_kinds = st.sampled_from(list(Kind))


@pytest.mark.fault(
    "a name that begins with anything", how="Hypothesis makes a prefix of any characters, also halves of them"
)
@pytest.mark.comes_to("the name fits, and is known again")
@given(_anything, _kinds, _owners, _serials)
@examples(0.2)
def test_what_elefast_names_it_knows(tally: Tally, prefix: str, kind: Kind, owner: str, serial: str) -> None:
    """Any prefix gives a name that fits, is text for PostgreSQL, and has the same mark when it is read."""
    name = str(Name(prefix, kind, owner, serial))
    assert len(name.encode()) <= MAX_BYTES
    assert "\0" not in name
    parsed = Name.parse(name)
    assert parsed is not None
    assert (parsed.kind, parsed.owner, parsed.serial) == (kind, owner, serial)
    assert str(parsed) == name
    tally.add("the name fits, and is known again")


@pytest.mark.fault(
    "a foreign name that looks like one of elefast's",
    how="Hypothesis makes names of the same parts, with another check",
)
@pytest.mark.comes_to("it is not taken for one")
@given(
    st.text(LETTERS)
    | st.tuples(
        _prefixes, st.sampled_from(string.ascii_lowercase), _owners, _serials, st.text(_DIGITS, min_size=8, max_size=8)
    ).map(lambda it: f"{it[0]}_{it[1]}{it[2]}_{it[3]}_{it[4]}")
)
@examples(0.2)
def test_what_somebody_else_named_is_not_ours(tally: Tally, name: str) -> None:
    """However much it looks like one of our names; the check would be right by chance once in a million millions."""
    assert Name.parse(name) is None
    tally.add("it is not taken for one")


@st.composite
def _changed(draw: st.DrawFn) -> tuple[str, str]:
    """A name of ours, and the same with a small change."""
    name = str(Name(draw(_prefixes), draw(_kinds), draw(_owners), draw(_serials)))
    at, other = draw(st.integers(0, len(name) - 1)), draw(st.characters(exclude_categories=["Cs"]))
    ways: list[Callable[[], str]] = [
        lambda: name[:at] + other + name[at + 1 :],
        lambda: name[:at] + other + name[at:],
        lambda: name[:at] + name[at + 1 :],
        lambda: name[:at] + name[at:][::-1],
        lambda: name[: at + 1],
        lambda: name[at:],
        lambda: name[:at].swapcase() + name[at:],
        name.upper,
        lambda: unicodedata.normalize("NFD", name),
        lambda: unicodedata.normalize("NFKC", name),
        lambda: name + other,
        lambda: other + name,
        lambda: name + name,
        lambda: name.encode()[1:].decode(errors="ignore"),
        lambda: name[:-CHECK_LENGTH] + name[-CHECK_LENGTH:].upper(),
        lambda: f"{name}\n",
    ]
    return name, draw(st.sampled_from(ways))()


@pytest.mark.fault(
    "a name of elefast's that somebody changed", how="Hypothesis changes, cuts, doubles and normalises names"
)
@pytest.mark.comes_to("it is not taken for one", "nothing was changed")
@given(_changed())
@examples(0.2)
def test_no_change_of_a_name_is_ours(tally: Tally, names: tuple[str, str]) -> None:
    """A database that somebody renamed a little, or copied under another name, is theirs from then on."""
    name, changed = names
    if changed == name:
        tally.add("nothing was changed")
    else:
        assert Name.parse(changed) is None
        tally.add("it is not taken for one")


@pytest.fixture(scope="module")
def servers(server_url: str) -> dict[str, DatabaseServer]:
    """A server for each sync driver, whose own work goes over that driver too."""
    url = make_url(server_url)
    names = ("psycopg", "psycopg2", "pg8000")
    engines = {name: create_engine(url.set(drivername=f"postgresql+{name}"), poolclass=NullPool) for name in names}
    return {name: DatabaseServer(engine) for name, engine in engines.items()}


@pytest.mark.fault(
    "a database whose name begins with anything",
    how="it is made, connected to by engine and by URI, and dropped, over each sync driver",
)
@pytest.mark.comes_to("it is there, and it is gone")
@given(_anything, st.sampled_from(["psycopg", "psycopg2", "pg8000"]))
@examples(15)
def test_every_name_is_one_that_a_server_takes(
    tally: Tally, servers: dict[str, DatabaseServer], prefix: str, driver: str
) -> None:
    """A database of that name is made, connected to by engine and by URI, and dropped again, over each driver."""
    server = servers[driver]
    with server.create_database(prefix) as database:
        assert Name.parse(database.name) is not None
        with database.engine.connect() as connection:
            assert connection.scalar(text("select current_database()")) == database.name
        with psycopg.connect(database.dsn) as other:
            assert other.info.dbname == database.name
        with database.engine.connect() as connection:
            found = connection.scalars(text("select datname from pg_database")).all()
        assert database.name in found
        database.engine.dispose()
    with psycopg.connect(dsn(server.url)) as other:
        assert not other.execute("select from pg_database where datname = %s", [database.name]).fetchall()
    tally.add("it is there, and it is gone")


@pytest.mark.fault(
    "a database whose name begins with anything, over asyncio",
    how="it is made, connected to and dropped, over each async driver",
)
@pytest.mark.comes_to("it is there")
@given(_anything, st.sampled_from(["asyncpg", "psycopg"]))
@examples(20)
def test_every_name_is_one_that_async_drivers_take(tally: Tally, server_url: str, prefix: str, driver: str) -> None:
    """The same over asyncio."""

    async def there_and_gone() -> None:
        server = AsyncDatabaseServer(make_url(server_url).set(drivername=f"postgresql+{driver}"))
        async with await server.create_database(prefix) as database, database.engine.connect() as connection:
            assert await connection.scalar(text("select current_database()")) == database.name

    asyncio.run(there_and_gone())
    tally.add("it is there")

"""URLs: no trick leads away from this machine, and every character arrives where it belongs."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import conninfo
from sqlalchemy import URL, make_url

import elefast
from elefast.config import load_settings
from elefast.config.drivers import async_driver, sync_driver
from elefast.errors import ElefastError
from elefast.postgres import sql
from elefast.postgres.connections.connectors import connectors_to
from elefast.postgres.connections.engines import maintenance_engine
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.urls import display_url, dsn, host_of, port_of, with_driver, without_secrets
from elefast.providers.url import UrlProvider, maintenance_url
from tests.robustness.properties import addresses
from tests.robustness.properties.documents import SECRET
from tests.robustness.properties.effort import examples
from tests.robustness.properties.loading import load
from tests.robustness.properties.tally import Tally
from tests.robustness.properties.targets import REFUSALS, targets


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with an empty configuration."""
    (tmp_path / "elefast.toml").touch()
    return tmp_path


@pytest.mark.fault(
    "a URL that leads to another machine by a trick",
    how="Hypothesis puts hosts into every part of a URL, arguments and variables; the drivers say where they would go",
)
@pytest.mark.comes_to("it is refused", "it leads nowhere else")
@example("postgresql://?host=localhost@evil.example&host=a.localhost", {}, {}, {}, "", "", False)
@example("postgresql://evil.example#a.localhost/x", {}, {}, {}, "", "", True)
@example("postgresql://localhost/x?hostaddr=10.6.6.6", {}, {}, {}, "", "", True)
@example("postgresql://localhost/x", {"hostaddr": "10.6.6.6"}, {}, {}, "", "", True)
@example("postgresql://localhost/x", {}, {}, {"PGSERVICE": "evil"}, "", "", False)
@given(
    addresses.urls(),
    addresses.arguments,
    addresses.arguments,
    addresses.environments,
    st.sampled_from(["", "psycopg", "psycopg2", "pg8000"]),
    st.sampled_from(["", "asyncpg", "psycopg"]),
    st.booleans(),
)
@examples(0.1)
def test_no_trick_leads_away_from_this_machine(
    tally: Tally,
    place: Path,
    url: str,
    connect_args: dict[str, Any],
    async_connect_args: dict[str, Any],
    env: dict[str, str],
    driver: str,
    other_driver: str,
    told: bool,
) -> None:
    """What is accepted goes nowhere else, as the drivers understand it, whatever the variables of the process say."""
    engine = {
        "url": url,
        "driver": driver,
        "async_driver": other_driver,
        "connect_args": connect_args,
        "async_connect_args": async_connect_args,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        loaded = load(place, dict(os.environ) if told else {}, engine=engine)
        if loaded is None:
            tally.add("it is refused")
            return
        settings = loaded.settings
        written = make_url(url)
        lease = maintenance_url(url)
        found: list[str] = []
        for is_async, made, args in (
            (False, with_driver(lease, sync_driver(settings), "x", written=written), connect_args),
            (True, with_driver(lease, async_driver(settings), "x", written=written), async_connect_args),
        ):
            # What no driver takes leads nowhere.
            with suppress(*REFUSALS):
                found += targets(made, args, is_async=is_async)
        control = maintenance_engine(lease, "postgres")
        found += targets(control.url, {} if "hostaddr" in control.url.query else {"hostaddr": ""})
        found += targets(lease, {"hostaddr": ""})
        # A socket's file is here, whatever the number in its name.
        found = [target for target in found if "/.s.PGSQL." not in target]
        assert not [target for target in found if any(far in target for far in addresses.FAR)], found
        tally.add("it leads nowhere else")


@pytest.mark.comes_to("it is told")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000", "asyncpg", "psycopg_async"])
def test_each_driver_says_where_it_would_go(tally: Tally, driver: str) -> None:
    """Else nothing would be looked at, since what a driver refuses is passed over."""
    url = make_url(f"postgresql+{driver}://localhost/x")
    assert targets(url, {}, is_async=driver in ("asyncpg", "psycopg_async")) == ["localhost"]
    tally.add("it is told")


# -- what a URL says arrives --------------------------------------------------------------------------------------

_ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_words = st.text(_ANY, min_size=1, max_size=8) | st.sampled_from(
    [
        "%",
        "%41",
        "%%s",
        "a@b",
        "a:b",
        "a/b",
        "a?b=c",
        "a#b",
        "a b",
        "a+b",
        "é",
        "'",
        '"',
        "\\",
        "&",
        "=",
        "\n",
        "***",
        "[x]",
    ]
)
_places: list[dict[str, Any]] = [
    {"host": "localhost"},
    {"host": "127.0.0.1", "port": 5433},
    {"host": "::1", "port": 5433},
    {"query": {"host": "/tmp/a b%/ü", "port": "5433"}},
    {"query": {"host": "/tmp"}, "port": 5433},
]


@pytest.mark.fault(
    "a URL with any characters",
    how="Hypothesis writes user, password, host and database; they are read again in each form",
)
@pytest.mark.comes_to("each part is what it was")
@given(
    _words,
    _words,
    st.sampled_from(["x", "a-b", "É", "a.b", "a b", "a'b"]),
    st.sampled_from(_places),
    st.sampled_from(
        ["postgresql", "postgresql+psycopg", "postgresql+asyncpg", "postgresql+pg8000", "postgresql+psycopg2"]
    ),
)
@examples(0.5)
def test_every_character_arrives(
    tally: Tally, place: Path, user: str, password: str, database: str, where: dict[str, Any], scheme: str
) -> None:
    """User, password, host, port and database are the same in every form that the URL is given on in."""
    written = URL.create(scheme, user, password, database=database, **where)
    text = written.render_as_string(hide_password=False)
    loaded = load(place, {}, engine__url=text)
    assert loaded is not None
    lease = maintenance_url(loaded.settings.engine.url)
    host, port = host_of(lease), port_of(lease)
    assert (host, port) == (where.get("host") or where["query"]["host"], 5433 if "5433" in str(where) else 5432)
    expected = {"user": user, "password": password, "dbname": database}
    for plain in (
        dsn(lease),
        dsn(make_url(text)),
        dsn(with_driver(lease, "postgresql+asyncpg", written=make_url(text))),
    ):
        found = conninfo.conninfo_to_dict(plain)
        assert {name: found[name] for name in expected} == expected
        assert (found["host"], int(found.get("port") or 5432)) == (host, port)
    for driver in (
        "postgresql+psycopg",
        "postgresql+psycopg2",
        "postgresql+pg8000",
        "postgresql+asyncpg",
        "postgresql",
    ):
        made = with_driver(lease, driver, written=make_url(text))
        # As a variable has it, and as whoever reads that will understand it.
        again = make_url(made.render_as_string(hide_password=False))
        assert (again.username, again.password, again.database) == (user, password, database)
        assert again == made
    tally.add("each part is what it was")


@pytest.mark.fault(
    "a password with any characters",
    how="Hypothesis writes it at its place or among the options; whatever is shown is searched",
)
@pytest.mark.comes_to("it is nowhere to be read", "what is no secret can be read")
@given(_words, _words, st.sampled_from(["user", "password", "sslpassword", "oauth_client_secret", "application_name"]))
@examples(0.5)
def test_no_secret_is_shown(tally: Tally, place: Path, value: str, other: str, option: str) -> None:
    """Not that of the URL, nor one among its options, whatever it is made of; what is none can be read."""
    secret = f"{SECRET}{value}"
    for url in (
        URL.create("postgresql", "me", secret, "127.0.0.1", 1, "x", {"application_name": other}),
        URL.create("postgresql", "me", None, "127.0.0.1", 1, "x", {option: secret}),
    ):
        is_secret = url.password is not None or option not in ("user", "application_name")
        text = url.render_as_string(hide_password=False)
        loaded = load_settings(place, env={}, engine__url=text)
        lease = UrlProvider(text).acquire()
        stack = elefast.from_config(place, env={"CI": "1"}, engine__url=text)
        server = elefast.DatabaseServer(url.set(drivername="postgresql+psycopg"))
        texts = [repr(loaded), repr(lease), lease.description, repr(stack), repr(server), display_url(lease.url)]
        with pytest.raises(ElefastError) as caught:
            MaintenanceSession(lease.url, connectors_to(lease.url)).ensure_ready(timeout=0.1, interval=0.1)
        texts.append(str(caught.value))
        texts.append(str(without_secrets(lease.url)))
        stack.close()
        for one in texts:
            assert not is_secret or SECRET not in one
        assert is_secret or SECRET in lease.description
        tally.add("it is nowhere to be read" if is_secret else "what is no secret can be read")


@pytest.mark.fault(
    "a role with any name and any password",
    how="it is made on a server, and uses databases over each driver, by engine, URI and variable",
)
@pytest.mark.comes_to("it is let in everywhere")
@given(_words, _words, st.sampled_from(["psycopg", "psycopg2", "pg8000", "asyncpg"]))
@examples(25)
def test_every_role_and_password_is_let_in(
    tally: Tally, tmp_path: Path, server_url: str, user: str, password: str, driver: str
) -> None:
    """A role of any name with any password has its databases over each driver, by engine, by URI and by a variable."""
    # asyncpg breaks its own message with these: it writes the name into it as it is (SCRAM, RFC 5802 5.1).
    user, password = _letters(user).replace(",", ";").replace("=", "-"), _letters(password)
    quoted = sql.identifier(user)
    with psycopg.connect(dsn(make_url(server_url)), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {quoted} LOGIN CREATEDB PASSWORD {sql.literal(password)}".encode())
        try:
            url = make_url(server_url).set(drivername=f"postgresql+{driver}", username=user, password=password)
            _use(tmp_path, url)
        finally:
            admin.execute(f"DROP ROLE {quoted}".encode())
    tally.add("it is let in everywhere")


def _letters(text: str) -> str:
    """What of `text` may be in the name of a role and in a password: beyond that drivers disagree (SASLprep)."""
    known = "".join(letter for letter in text if letter.isprintable() and ord(letter) < 0x250)
    return unicodedata.normalize("NFKC", known).strip() or "x"


def _use(place: Path, url: URL) -> None:
    """Have a database as `url` says, and be who it says in each way to get there."""
    (place / "elefast.toml").write_text("")
    text = url.render_as_string(hide_password=False)
    with elefast.from_config(place, env={"CI": "1"}, engine__url=text, pool__size=0, migrator="none") as stack:
        lent = stack.checkout()
        question = sqlalchemy.text("select current_user")
        with lent.engine.connect() as connection:
            assert connection.scalar(question) == url.username
        for scheme in ("postgresql+psycopg2", "postgresql+psycopg", "postgresql+pg8000"):
            engine = sqlalchemy.create_engine(lent.url_for(scheme).render_as_string(hide_password=False))
            with engine.connect() as connection:
                assert connection.scalar(question) == url.username
            engine.dispose()
        with psycopg.connect(lent.dsn) as plain:
            assert plain.execute("select current_user").fetchall() == [(url.username,)]

        async def ask() -> object:
            async with lent.async_.engine.connect() as connection:
                return await connection.scalar(question)

        assert asyncio.run(ask()) == url.username
        lent.release(wait=True)

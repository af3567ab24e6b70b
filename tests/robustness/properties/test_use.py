"""What a configuration is accepted with can be used, or one error says why not; nothing is left of the attempt."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url, text

import elefast
from elefast.config.keys import Key, all_keys
from elefast.errors import ElefastError
from elefast.postgres.names import Kind
from elefast.postgres.urls import dsn
from tests.robustness.properties.documents import right_values, texts
from tests.robustness.properties.effort import LETTERS, examples
from tests.robustness.properties.nonsense import wrong_scripts
from tests.robustness.properties.remains import Remains
from tests.robustness.properties.rule import check
from tests.robustness.properties.tally import Tally

USED = "a test has its database"
REFUSED = "one error says why not"

_EXTENSIONS = ["pg_trgm", "plpgsql", "nonsense", 'a"b', "x" * 100, "a; DROP DATABASE postgres", "%s", "\n"]
_extensions = st.lists(st.sampled_from(_EXTENSIONS) | texts, max_size=2)
# Not what is watched: of "/" that would be every file of the machine.
_OF_SERVERS = ["seed", "postgres", "alembic", "sql", "callable", "metadata", "command", "pool", "template", "migrator"]


def _values(*tables: str, without: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of `from_config()` that are right, or nearly, for keys of these tables."""
    keys = [key for key in all_keys() if key.path[0] in tables and key.name not in without]

    def pair(key: Key) -> st.SearchStrategy[tuple[str, Any]]:
        return right_values(key).map(lambda value: ("__".join(key.path), value))

    return st.lists(st.sampled_from(keys).flatmap(pair), max_size=3).map(dict)


@pytest.fixture
def remains(server_url: str) -> Generator[Remains]:
    """Looks at the server before and after an attempt."""
    with psycopg.connect(dsn(make_url(server_url)), autocommit=True) as connection:
        yield Remains(connection)


@pytest.mark.fault("a template of a configuration with any values", how="migrators, seeds and extensions of any kind")
@pytest.mark.comes_to(USED, REFUSED)
@given(_extensions, _values(*_OF_SERVERS, without=("template.watch",)))
@examples(10)
def test_a_template_is_built_or_refused(
    tally: Tally, tmp_path: Path, server_url: str, remains: Remains, extensions: list[str], values: dict[str, Any]
) -> None:
    """By whatever migrator, with whatever seeds and extensions; no half of a template and no database stays."""
    remains.note()
    (tmp_path / "elefast.toml").touch()
    (tmp_path / "x.sql").write_text("CREATE TABLE x ();")
    came = _use(tmp_path, {"engine": {"url": server_url}, "extensions": extensions, **values})
    remains.check(Kind.TEMPLATE, *([Kind.SPARE] if came == USED else []))  # a complete layer may stay
    tally.add(came)


@pytest.mark.fault("a build that fails anywhere", how="the schema and the seed have any bytes and statements")
@pytest.mark.comes_to(USED, REFUSED)
@given(wrong_scripts, wrong_scripts)
@examples(4)
def test_no_part_of_a_build_stays(
    tally: Tally, tmp_path: Path, server_url: str, remains: Remains, schema: bytes, seed: bytes
) -> None:
    """No database, role, lock or session: whatever the script did to its own session."""
    remains.note()
    (tmp_path / "elefast.toml").touch()
    (tmp_path / "schema.sql").write_bytes(schema)
    (tmp_path / "seed.sql").write_bytes(seed)
    values = {"migrator": "sql", "sql__files": ["schema.sql"], "seed": ["seed.sql"], "pool__size": 1}
    came = _use(tmp_path, {"engine__url": server_url, **values})
    remains.check(Kind.TEMPLATE, *([Kind.SPARE] if came == USED else []))  # a complete layer may stay
    tally.add(came)


_NAMES = st.text(LETTERS.filter(lambda letter: letter != "\0"), max_size=8)
_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "pool_pre_ping": st.booleans(),
    "pool_recycle": st.integers(-1, 10),
    "pool_timeout": st.integers(1, 10) | st.floats(0.5, 10),
    "pool_use_lifo": st.booleans(),
    "pool_reset_on_return": st.sampled_from(["rollback", "commit"]),
    "isolation_level": st.sampled_from(["AUTOCOMMIT", "SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"]),
    "execution_options": st.dictionaries(st.sampled_from(["a", "schema_translate_map"]), st.just({"x": "public"})),
    "query_cache_size": st.integers(0, 10),
    "hide_parameters": st.booleans(),
    "insertmanyvalues_page_size": st.integers(1, 10),
    "logging_name": _NAMES,
    "pool_logging_name": _NAMES,
    "label_length": st.integers(6, 63),
    "max_identifier_length": st.integers(1, 9999),
    "skip_autocommit_rollback": st.booleans(),
}
_ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "application_name": _NAMES,
    "connect_timeout": st.integers(2, 100),
    "options": st.sampled_from(["-c work_mem=1MB", "-c search_path=a,\\ public", "-c TimeZone=UTC -c jit=on", ""]),
    "keepalives": st.integers(0, 1),
    "client_encoding": st.sampled_from(["utf8", "UTF8"]),
    "gssencmode": st.just("disable"),
    "sslmode": st.sampled_from(["disable", "allow", "prefer"]),
}
_PLAIN_ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "application_name": _NAMES,
    "timeout": st.integers(2, 100),
    "tcp_keepalive": st.booleans(),
}
_ASYNC_ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "statement_cache_size": st.integers(0, 10),
    "prepared_statement_cache_size": st.integers(0, 10),
    "server_settings": st.dictionaries(st.just("application_name"), _NAMES),
    "timeout": st.integers(2, 100),
    "command_timeout": st.integers(2, 100),
    "ssl": st.booleans().filter(lambda wanted: not wanted),
}


def _some(ways: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=ways)


_OF_DRIVERS = {"psycopg": _ARGUMENTS, "psycopg2": _ARGUMENTS, "pg8000": _PLAIN_ARGUMENTS}
_OF_ASYNC_DRIVERS = {"psycopg": _ARGUMENTS, "asyncpg": _ASYNC_ARGUMENTS}


@st.composite
def _engines(draw: st.DrawFn) -> dict[str, Any]:
    driver, other = draw(st.sampled_from(sorted(_OF_DRIVERS))), draw(st.sampled_from(sorted(_OF_ASYNC_DRIVERS)))
    chosen = draw(st.lists(st.sampled_from(sorted(_OPTIONS)), max_size=4, unique=True))
    sizes = {"pool_size": st.integers(0, 3), "max_overflow": st.integers(-1, 2)}
    options = {name: draw(_OPTIONS[name]) for name in chosen}
    if "label_length" in options:  # or SQLAlchemy refuses both
        options["max_identifier_length"] = max(options.get("max_identifier_length", 63), options["label_length"])
    return {
        "driver": driver,
        "async_driver": other,
        "connect_args": draw(_some(_OF_DRIVERS[driver])),
        "async_connect_args": draw(_some(_OF_ASYNC_DRIVERS[other])),
        "options": options,
        **draw(_some(sizes)),
    }


_others = st.fixed_dictionaries(
    {},
    optional={
        "extensions": st.lists(st.sampled_from(["pg_trgm", "plpgsql", "citext", "hstore"]), unique=True),
        "pool": st.fixed_dictionaries({"size": st.integers(0, 2), "max": st.integers(2, 9), "reuse": st.booleans()}),
        "template": st.fixed_dictionaries(
            {
                "cache": st.booleans(),
                "keep": st.integers(0, 2),
                "strategy": st.sampled_from(["auto", "file_copy", "wal_log"]),
            }
        ),
        "postgres": st.sampled_from([">=14", "<99", ">=14,<99"]),
    },
)


@pytest.mark.fault("options of engines, drivers, pools and templates", how="any of those that are right, together")
@pytest.mark.comes_to(USED)
@given(_engines(), _others)
@examples(4)
def test_what_is_accepted_works(
    tally: Tally, tmp_path: Path, server_url: str, remains: Remains, engine: dict[str, Any], others: dict[str, Any]
) -> None:
    """Whatever SQLAlchemy and the drivers take together, each of two tests has its database by it, sync and async."""
    remains.note()
    (tmp_path / "elefast.toml").touch()
    env = {**os.environ, "CI": "1"}
    engine = {"url": server_url, **engine}  # of any kind, and not of the types that the arguments have
    with elefast.from_config(tmp_path, env=env, migrator="none", **{"engine": engine, **others}) as stack:
        for _ in range(2):
            _ask(stack)
    remains.check(Kind.TEMPLATE, Kind.SPARE)
    tally.add(USED)


def _ask(stack: elefast.Stack) -> None:
    """Be a test that uses both of its engines."""
    lent = stack.checkout("a test")
    question = text("SELECT current_database()")
    with lent.engine.connect() as connection:
        found = connection.scalar(question)

    async def ask() -> object:
        engine = lent.async_.engine
        try:
            async with engine.connect() as connection:
                return await connection.scalar(question)
        finally:
            await engine.dispose()  # its connections are this loop's

    assert asyncio.run(ask()) == found == lent.name
    lent.release(wait=True)


@pytest.fixture
def root(elefast_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of local servers of these tests alone."""
    made = elefast_root / "properties"
    made.mkdir(exist_ok=True)
    made.chmod(0o711)
    monkeypatch.setenv("_ELEFAST_ROOT", str(made))
    return made


_directories = texts.filter(lambda text: not text.startswith(("/", "~")) and ".." not in text)


@pytest.mark.fault("a local server of a configuration with any values", how="any settings, data in any directory")
@pytest.mark.comes_to(USED, REFUSED)
@given(_directories | st.just(""), _values("tuning", "local", without=("local.data_dir", "local.reuse")))
@examples(40)
def test_a_server_is_started_or_refused(
    tally: Tally, tmp_path: Path, root: Path, data_dir: str, values: dict[str, Any]
) -> None:
    """With whatever settings, wherever its data are; no process and no file stays."""
    (tmp_path / "elefast.toml").touch()
    tally.add(_use(tmp_path, {"provider": "local", "migrator": "none", "local__data_dir": data_dir, **values}))
    _see_nothing_left(root, tmp_path)


_SETTINGS = b"""
SELECT name, vartype, boot_val, min_val, max_val, enumvals FROM pg_settings
WHERE context <> 'internal' AND vartype <> 'string' AND name NOT LIKE '%timeout' ORDER BY name
"""


@pytest.fixture(scope="module")
def settings(server_url: str) -> list[dict[str, Any]]:
    """What the server itself says of its settings."""
    with psycopg.connect(dsn(make_url(server_url)), row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(_SETTINGS).fetchall()


def _value(setting: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """A value that the setting may have, not far from its default: there is not all memory of the world."""
    match setting["vartype"]:
        case "bool":
            return st.sampled_from(["on", "off"])
        case "enum":
            return st.sampled_from(setting["enumvals"])
        case "integer":
            least, default, most = (int(setting[name]) for name in ("min_val", "boot_val", "max_val"))
            return st.sampled_from(sorted({least, default, max(least, default - 1), min(most, default + 1)})).map(str)
        case _:
            return st.sampled_from([setting["min_val"], setting["boot_val"]])


@pytest.mark.fault("any setting of PostgreSQL", how="`tuning.settings` has some of `pg_settings`")
@pytest.mark.comes_to(USED, rare=(REFUSED,))
@given(st.data())
@examples(40)
def test_any_setting_of_a_server(
    tally: Tally, tmp_path: Path, root: Path, settings: list[dict[str, Any]], data: st.DataObject
) -> None:
    """The server starts and can be used, or the error has what it said; no process and no file stays."""
    (tmp_path / "elefast.toml").touch()
    chosen = data.draw(st.lists(st.sampled_from(settings), max_size=3, unique_by=lambda setting: setting["name"]))
    values = {setting["name"]: data.draw(_value(setting)) for setting in chosen}
    tally.add(_use(tmp_path, {"provider": "local", "migrator": "none", "tuning__settings": values}))
    _see_nothing_left(root, tmp_path)


def _see_nothing_left(root: Path, place: Path) -> None:
    deadline = time.monotonic() + 30  # the server ends behind whoever lets go of it
    while left := [name for where, _, files in os.walk(root) for name in files if "caches" not in where]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["elefast.toml"]


def _use(place: Path, arguments: Mapping[str, Any]) -> str:
    """Have a database, and be connected to it; or have an error as the rule has it."""
    try:
        with elefast.from_config(place, env={**os.environ, "CI": "1"}, **arguments) as stack:
            lent = stack.checkout("a test")
            with lent.engine.connect():
                pass
            lent.release(wait=True)
    except ElefastError as error:
        check(error)
        return REFUSED
    return USED

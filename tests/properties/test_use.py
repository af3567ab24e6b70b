"""What a configuration is accepted with can be used, or one error says why not; nothing is left of the attempt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

import elefast
from elefast.config.keys import Key, all_keys
from elefast.errors import ElefastError
from elefast.kernel.names import Kind, Name
from elefast.urls import dsn
from tests.properties.documents import right_values, texts
from tests.properties.effort import examples
from tests.properties.rule import check

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
def names(server_url: str) -> Generator[Callable[[], set[str]]]:
    """The databases of elefast's own on the server that are not there for the next run."""
    with psycopg.connect(dsn(make_url(server_url)), autocommit=True) as connection:

        def find() -> set[str]:
            parsed = {name: Name.parse(name) for (name,) in connection.execute("SELECT datname FROM pg_database")}
            passing = (Kind.CLONE, Kind.DRAFT, Kind.VOLATILE, Kind.FAILED, Kind.KEPT)
            return {name for name, made in parsed.items() if made is not None and made.kind in passing}

        yield find


@given(_extensions, _values(*_OF_SERVERS, without=("template.watch",)))
@examples(20)
def test_a_template_is_built_or_refused(
    tmp_path: Path, server_url: str, names: Callable[[], set[str]], extensions: list[str], values: dict[str, Any]
) -> None:
    """By whatever migrator, with whatever seeds and extensions; no half of a template and no database stays."""
    before = names()
    (tmp_path / "elefast.toml").write_text("")
    (tmp_path / "x.sql").write_text("CREATE TABLE x ();")
    _use(tmp_path, {"engine": {"url": server_url}, "extensions": extensions, **values})
    assert names() == before


@pytest.fixture
def root(elefast_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of local servers of these tests alone."""
    made = elefast_root / "properties"
    made.mkdir(exist_ok=True)
    made.chmod(0o711)
    monkeypatch.setenv("_ELEFAST_ROOT", str(made))
    return made


_directories = texts.filter(lambda text: not text.startswith(("/", "~")) and ".." not in text)


@given(_directories | st.just(""), _values("tuning", "local", without=("local.data_dir", "local.reuse")))
@examples(60)
def test_a_server_is_started_or_refused(tmp_path: Path, root: Path, data_dir: str, values: dict[str, Any]) -> None:
    """With whatever settings, wherever its data are; no process and no file stays."""
    (tmp_path / "elefast.toml").write_text("")
    _use(tmp_path, {"provider": "local", "migrator": "none", "local__data_dir": data_dir, **values})
    deadline = time.monotonic() + 30  # the server ends behind whoever lets go of it
    while left := [name for where, _, files in os.walk(root) for name in files if "caches" not in where]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["elefast.toml"]


def _use(place: Path, arguments: Mapping[str, Any]) -> None:
    """Have a database, and be connected to it; or have an error as the rule has it."""
    try:
        with elefast.from_config(place, env={**os.environ, "CI": "1"}, **arguments) as stack:
            lent = stack.open("a test")
            with lent.engine.connect():
                pass
            lent.release(wait=True)
    except ElefastError as error:
        check(error)

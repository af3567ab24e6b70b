"""Tests of any name: what is said of their databases holds, on the server, in the summary and on the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from elefast.cli import main
from elefast.postgres.urls import dsn
from elefast.runtime.text import one_line
from tests.robustness.properties.effort import LETTERS, examples
from tests.robustness.properties.tally import Tally

_IDS = [
    "'",
    '"',
    "\\",
    "\n",
    "\r\n",
    "\0",
    "\x1b[31m",
    "%s",
    "{}",
    "[red]",
    "[/]",
    "::",
    "é",
    "🐘",
    "\u202e",
    "\x85",
    "a" * 3000,
]
_ids = st.sampled_from(_IDS) | st.text(LETTERS, min_size=1, max_size=8)
# Whatever a file may be called whose name pytest can hand on; what is no UTF-8 comes to Python as half a character.
_files = st.sampled_from(
    ["test_it", "test_'\"", "test_é🐘", "test_[red]", "test_a\nb", "test_\x1b[1A", "test_\udcff", "test_%s{}"]
)


def _can_be_told_apart(ids: list[str]) -> bool:
    """Where their middle is left out, too."""
    return sum(len(one) > 900 for one in ids) <= 1


_TESTS = """
import json, os
import pytest
from sqlalchemy import text

LEFT = []

@pytest.mark.parametrize("number", range({count}), ids={ids!a})
def test_it(db, number):
    if number % 2:
        LEFT.append(db.engine.connect())
        LEFT[-1].execute(text("SELECT 4711"))
"""
_CONFTEST = """
import json
def pytest_collection_finish(session):
    with open("nodeids.json", "w") as file:
        json.dump([item.nodeid for item in session.items], file)
"""
_CONFIGURATION = """
[tool.elefast]
migrator = "none"
keep = "always"
engine.url = "{url}"

[tool.pytest.ini_options]
{escaping}
filterwarnings = ["default"]
"""


@pytest.mark.fault("a test with any name", how="Hypothesis names files and parameters of tests, and pytest runs them")
@pytest.mark.comes_to("its database is named in the summary, in warnings and by `elefast ls`")
@given(_files, st.lists(_ids, min_size=1, max_size=5).filter(_can_be_told_apart), st.booleans())
@example("test_é🐘", ["'\n", "\x1b[31m", "\u202e", "a" * 3000], False)
@examples(100, least=1)
def test_every_test_is_named(
    tally: Tally,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    server_url: str,
    file: str,
    ids: list[str],
    escaped: bool,
) -> None:
    """By the comment of its database, the summary, a warning of what it left open, and `elefast ls`."""
    place = tmp_path / "project"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    escaping = "" if escaped else "disable_test_id_escaping_and_forfeit_all_rights_to_community_support = true"
    (place / "pyproject.toml").write_text(_CONFIGURATION.format(url=server_url, escaping=escaping))
    (place / "conftest.py").write_text(_CONFTEST)
    (place / f"{file}.py").write_text(_TESTS.format(count=len(ids), ids=ids))
    try:
        done = _run(place, "pytest", "-p", "no:cacheprovider", "-p", "no:xdist")
        assert done.returncode == 0, done.stdout + done.stderr
        nodes: list[str] = json.loads((place / "nodeids.json").read_text())
        assert sorted(_kept(server_url).values()) == sorted(nodes)
        for number, node in enumerate(nodes):
            assert f"kept      {one_line(node, 1000)}\n" in done.stdout
            assert (f"LeakWarning: {one_line(node, 1000)} left a connection open" in done.stdout) == bool(number % 2)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place)
            assert main(["ls", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert sorted(item["test"] for item in listed if item["kind"] == "kept") == sorted(nodes)
        assert _run(place, "elefast.cli", "ls").returncode == 0
        tally.add("its database is named in the summary, in warnings and by `elefast ls`")
    finally:
        _drop(server_url)


def _run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python in the project."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=place,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "100000"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


def _kept(server_url: str) -> dict[str, str]:
    """The kept databases of the server, and the tests that their comments name."""
    query = "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname ~ '^elefast_k'"
    with psycopg.connect(dsn(make_url(server_url)), autocommit=True) as connection:
        found: Sequence[tuple[str, str]] = connection.execute(query).fetchall()
    return {name: json.loads(comment)["test"] for name, comment in found}


def _drop(server_url: str) -> None:
    with psycopg.connect(dsn(make_url(server_url)), autocommit=True) as connection:
        for name in _kept(server_url):
            connection.execute(SQL("DROP DATABASE {}").format(Identifier(name)))

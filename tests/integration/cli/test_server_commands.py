"""The commands that look at a server that is there: status, url, ls, template, psql."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import elefast
from elefast.cli import main
from elefast.postgres.names import Kind, Name

Names = Callable[[], set[str]]
Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command; what it wrote, errors as well."""

    def run(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        found = main(words)
        written = capsys.readouterr()
        assert found == status, written.err
        return written.out + written.err

    return run


@pytest.fixture
def kept(inside: Path) -> str:
    """A database that was kept of a test."""
    with elefast.from_config() as stack:
        lent = stack.checkout("tests/test_shop.py::test_order")
        with lent.sync.session() as session:
            session.connection().exec_driver_sql("insert into note values ('look at me')")
            session.commit()
        lent.release(keep="always")
        (kept,) = stack.report().kept
    return kept.name


def test_looking_changes_nothing(inside: Path, said: Said, kept: str, server_url: str, names: Names) -> None:
    """Not even what a dead run has left goes while somebody only looks; the next run sweeps it."""
    left = str(Name("elefast", Kind.CLONE, "0" * 12, "1"))
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'create database "{left}"'.encode())
    before = names()
    for words in (["status"], ["ls"], ["url"], ["template"], ["template", "explain"], ["prune", "--dry-run"]):
        said(*words)
        assert names() == before, words
    assert left in json.loads(said("prune", "--dry-run", "--json"))["dropped"]
    said("prune")
    assert not {left, kept} & names()


def test_ls_tells_kinds_tests_and_users(inside: Path, said: Said, kept: str) -> None:
    """For people a table, for programs JSON with documented keys."""
    with elefast.from_config(pool={"size": 0}) as stack:
        lent = stack.checkout("tests/test_it.py::test_now")
        with lent.sync.engine.connect():
            found = {item["name"]: item for item in json.loads(said("ls", "--json"))}
            mine, template = found[lent.name], found[stack.report().template]
        lent.release()
        assert (mine["kind"], mine["test"], len(mine["sessions"])) == ("test", "tests/test_it.py::test_now", 1)
        assert mine["project"] == "stack-tests"
        assert str(os.getpid()) not in mine["holder"]
        assert mine["holder"].startswith("elefast run")
        assert (template["kind"], template["project"]) == ("template", "stack-tests")
        assert template["since"] > "2026"
        assert template["size"] > 1_000_000
    assert (found[kept]["kind"], found[kept]["test"]) == ("kept", "tests/test_shop.py::test_order")
    table = said("ls")
    assert kept in table
    assert "tests/test_shop.py::test_order" in table


def test_status_tells_what_is_there_and_hides_the_password(
    inside: Path, said: Said, kept: str, server_url: str
) -> None:
    """In both forms."""
    password = server_url.partition("@")[0].rpartition(":")[2]
    told = said("status", "--json")
    facts = json.loads(told)
    assert facts["running"]
    number = facts["databases"]["kept"]  # of all projects on the server, and other tests keep some
    assert number >= 1
    assert facts["provider"] == "url"
    shown = said("status")
    assert f"{number} kept" in shown
    assert "***" in shown
    assert password not in told + shown + said("ls")


def test_url_is_for_programs(inside: Path, said: Said, kept: str) -> None:
    """With the password, in libpq's form or in that of a driver, of a database named by its test as well."""
    plain = said("url", "test_order").strip()
    assert plain.endswith(f"/{kept}")
    with psycopg.connect(plain) as connection:
        assert connection.execute("select body from note").fetchone() == ("look at me",)
    assert said("url", kept, "--driver", "postgresql+asyncpg").startswith("postgresql+asyncpg://")
    assert "more: elefast explain database-not-found" in said("url", "nothing_like_that", status=2)


def test_two_kept_of_one_name_are_both_named(inside: Path, said: Said, kept: str) -> None:
    """A part that fits two tests means none of them; one test kept twice means the newer one."""
    with elefast.from_config() as stack:
        stack.checkout("tests/test_shop.py::test_order").release(keep="always")
        stack.checkout("tests/test_shop.py::test_other").release(keep="always")
        again, other = (one.name for one in stack.report().kept)
    message = said("url", "test_shop", status=2)
    assert all(name in message for name in (kept, again, other))
    assert said("url", "test_order").strip().rpartition("/")[2] in (kept, again)


def test_a_test_of_any_name_is_shown(inside: Path, said: Said) -> None:
    """Also of a file whose name is no UTF-8, or moves the cursor; programs are told the name as it is."""
    tests = ["test_\udcff.py::test_it[\x1b[1A]", "test_a\nb.py::test_it"]
    with elefast.from_config() as stack:
        for test in tests:
            stack.checkout(test).release(keep="always")
    shown = said("ls")
    assert "test_\\udcff.py::test_it[\\u001b[1A]" in shown
    assert "test_a\\nb.py::test_it" in shown
    assert [item["test"] for item in json.loads(said("ls", "--json")) if item["kind"] == "kept"] == tests
    assert said("url", tests[0]).startswith("postgresql://")
    assert "test_a\\nb.py::test_it" in said("url", "::test_it", status=2)


def test_template_explains_what_would_be_rebuilt(inside: Path, said: Said) -> None:
    """Without building: the file that changed, and what the key is made from."""
    assert "would be built: there was none yet" in said("template")
    assert "built: there was none yet" in said("template", "build")
    assert json.loads(said("template", "--json"))["fits"]
    assert "schema.sql" in said("template", "explain")
    (inside / "schema.sql").write_text(f"create table note (body text, at date);\n-- {inside}\n")
    told = json.loads(said("template", "explain", "--json"))
    assert (told["fits"], told["name"], told["changes"]) == (False, None, ["changed schema.sql"])
    assert "would be built: changed schema.sql" in said("template", "explain")


def test_template_build_by_force_and_drop(inside: Path, said: Said, names: Names, server_url: str) -> None:
    """A forced one is another one; drop takes the project's and nothing else, and leaves those in use."""
    first, second = (json.loads(said("template", "build", *force, "--json"))["name"] for force in ([], ["--force"]))
    assert first != second
    assert {first, second} <= names()
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create database elefast_mine")
        try:
            with elefast.from_config(pool={"size": 0}) as stack:
                stack.checkout().release()
                used = stack.report().template
                gone = _drop_elsewhere(inside)
                assert used in names()
                assert ({first, second} - {used}) <= set(gone)
            assert "elefast_mine" in names()
        finally:
            connection.execute("drop database elefast_mine")


def _drop_elsewhere(inside: Path) -> list[str]:
    """Another process drops: a lock does not keep out the process that has it."""
    done = subprocess.run(
        [sys.executable, "-m", "elefast.cli", "template", "drop", "--json"],
        cwd=inside,
        capture_output=True,
        text=True,
        check=True,
    )
    dropped: list[str] = json.loads(done.stdout)["dropped"]
    return dropped


def test_an_empty_project_has_no_template(inside: Path, said: Said) -> None:
    """There is nothing to copy, and that is said."""
    (inside / "pyproject.toml").write_text("[tool.elefast]\nmigrator = 'none'\n")
    for words in (["template"], ["template", "build"], ["template", "explain"]):
        assert "databases are empty" in said(*words)
    assert json.loads(said("template", "--json")) is None


def test_psql_opens_what_was_kept_last(inside: Path, kept: str) -> None:
    """Its options after two hyphens; the password is in no argument, and its exit status is ours."""
    asked = _psql(inside, "--", "-X", "-Atc", "select body, current_database() from note")
    assert asked.stdout.strip() == f"look at me|{kept}", asked.stderr
    assert _psql(inside, "test_order", "--", "-X", "-Atc", "select 1/0").returncode == 1
    own = _psql(inside, kept, "--", "-X", "-Atc", r"\! cat /proc/$PPID/cmdline | tr '\0' ' '")
    assert "psql" in own.stdout
    assert os.environ["ELEFAST_ENGINE__URL"].partition("@")[0].rpartition(":")[2] not in own.stdout


def _psql(inside: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "elefast.cli", "psql", *words], cwd=inside, capture_output=True, text=True, timeout=60
    )

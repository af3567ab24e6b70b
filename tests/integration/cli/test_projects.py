"""Two projects on one server: a command is about its own, unless it is asked for all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import elefast
from elefast.cli import main
from elefast.cli.psql import separated
from elefast.databases import current_checkouts
from elefast.databases.manager import KEPT_AT_MOST
from elefast.providers.local import LocalLease
from tests.integration.cli.test_server_commands import Names, Said, said

__all__ = ["said"]

OTHER = """
[project]
name = "other-project"
[tool.elefast]
migrator = "sql"
[tool.elefast.sql]
files = ["schema.sql"]
"""


@pytest.fixture
def other(inside: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Another project on the same server."""
    path = tmp_path_factory.mktemp("other")
    (path / "pyproject.toml").write_text(OTHER)
    (path / "schema.sql").write_text(f"create table thing (body text);\n-- {path}\n")
    yield path
    with elefast.from_config(path) as stack:
        stack.admin().prune(templates=True)


def _keep(project: Path, test: str) -> str:
    """The name of a database that was kept of a test."""
    with elefast.from_config(project, pool={"size": 0}) as stack:
        stack.checkout(test).release(keep="always")
        return stack.report().kept[-1].name


@pytest.fixture
def unknown(inside: Path, server_url: str) -> Iterator[str]:
    """A kept database whose comment names no project."""
    name = _keep(inside, "tests/test_old.py::test_unknown")
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"comment on database \"{name}\" is 'somebody wrote this'".encode())
    yield name
    with elefast.from_config(inside) as stack:
        stack.admin().prune(all_projects=True)


def test_prune_leaves_what_other_projects_kept(
    inside: Path, other: Path, unknown: str, said: Said, names: Names
) -> None:
    """And what names no project; it says so. `--all` takes the project's templates, and no other's."""
    mine = _keep(inside, "tests/test_shop.py::test_order")
    theirs = _keep(other, "tests/test_thing.py::test_thing")
    with elefast.from_config(other) as stack:
        (made,) = stack.admin().build_template()
        template = made.name
    for words in (["prune", "--dry-run"], ["prune"], ["prune", "--all"]):
        written = said(*words)
        assert "left alone, not of project stack-tests: " in written
        assert "unknown 1" in written
        if words != ["prune", "--all"]:
            assert f"{mine} (kept, project stack-tests, tests/test_shop.py::test_order)" in written
        assert {theirs, unknown, template} <= names()
    assert mine not in names()
    told = json.loads(said("prune", "--all", "--all-projects", "--dry-run", "--json"))
    assert {theirs, unknown, template} <= set(told["dropped"])
    (found,) = (item for item in told["databases"] if item["name"] == theirs)
    assert found == {
        "name": theirs,
        "kind": "kept",
        "project": "other-project",
        "test": "tests/test_thing.py::test_thing",
    }
    said("prune", "--all", "--all-projects")
    assert not {theirs, unknown, template} & names()


def test_template_drop_leaves_those_of_other_projects(inside: Path, other: Path, said: Said, names: Names) -> None:
    """By the project in their comments."""
    with elefast.from_config(other) as stack:
        (theirs,) = stack.admin().build_template()
    said("template", "build")
    assert "1 database dropped" in said("template", "drop")
    assert theirs.name in names()


def test_a_run_does_not_push_out_what_other_projects_kept(
    inside: Path, other: Path, unknown: str, names: Names
) -> None:
    """The newest databases of each project stay, however many there are of others."""
    theirs = _keep(other, "tests/test_thing.py::test_thing")
    with elefast.from_config(inside, pool={"size": 0}) as stack:
        for number in range(KEPT_AT_MOST + 2):
            stack.checkout(f"tests/test_many.py::test_{number}").release(keep="always")
        mine = [kept.name for kept in stack.report().kept]
    with elefast.from_config(inside) as stack:
        stack.checkout().release()
    assert {theirs, unknown} <= names()
    assert [name for name in mine if name in names()] == mine[2:]


def test_ls_shows_the_project_and_counts_others(
    inside: Path, other: Path, unknown: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What names no project is shown, since it may be the project's. No line of known length needs more than 80."""
    mine = _keep(inside, "tests/test_shop.py::test_order")
    theirs = _keep(other, "tests/test_thing.py::test_thing")
    table = said("ls")
    assert mine in table
    assert unknown in table
    assert theirs not in table
    assert "not shown, of other projects: other-project 2; --all-projects shows them" in table
    assert max(map(len, table.splitlines())) <= 80
    assert "T" not in table.splitlines()[1].split()[-2]
    everything = said("ls", "--all-projects")
    assert theirs in everything
    assert "  project other-project, tests/test_thing.py::test_thing" in everything
    assert {item["name"] for item in json.loads(said("ls", "--all-projects", "--json"))} > {mine, theirs}
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        assert said("ls") != table
    time.tzset()


def test_a_name_of_another_project_is_found_when_it_is_asked_for(inside: Path, other: Path, said: Said) -> None:
    """The error says whose it is."""
    theirs = _keep(other, "tests/test_thing.py::test_thing")
    for wanted in ("test_thing", theirs):
        message = said("url", wanted, status=2)
        assert f'there is no database of project stack-tests that "{wanted}" means; project other-project' in message
    assert said("url", "--all-projects", "test_thing").strip().endswith(f"/{theirs}")


def _psql(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    assert main(["psql", *words]) == 0
    written = capfd.readouterr()
    return written.out.strip(), written.err


def test_psql_says_what_it_opens(
    inside: Path, other: Path, psql: None, capfd: pytest.CaptureFixture[str], server_url: str
) -> None:
    """A test that runs comes first, then what was kept last, then the maintenance database; never another project's."""
    ask = ("-XAtc", "select current_database()")
    theirs = _keep(other, "tests/test_thing.py::test_thing")
    out, said = _psql(capfd, *ask)
    assert out == server_url.rpartition("/")[2]
    assert "for maintenance: no test of project stack-tests runs on this machine, and no database was kept" in said
    mine = _keep(inside, "tests/test_shop.py::test_order")
    out, said = _psql(capfd, *ask)
    assert out == mine
    assert said == f"database {mine}: kept, project stack-tests, tests/test_shop.py::test_order\n"
    with elefast.from_config(inside, pool={"size": 0}) as stack:
        lent = stack.checkout("tests/test_shop.py::test_now")
        out, said = _psql(capfd, *ask)
        assert out == lent.name
        assert said == f"database {lent.name}: running test, project stack-tests, tests/test_shop.py::test_now\n"
        assert _psql(capfd, "test_now", *ask)[0] == lent.name
        assert _psql(capfd, "test_order", "--", *ask)[0] == mine
        lent.release()
    assert _psql(capfd, *ask)[0] == mine
    assert _psql(capfd, "--all-projects", theirs, *ask)[0] == theirs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["psql", "-c", "select 1"], ["psql", "--", "-c", "select 1"]),
        (["psql", "test_x", "-c", "x"], ["psql", "--", "test_x", "-c", "x"]),
        (["psql", "--profile", "ci", "-c", "x"], ["psql", "--profile", "ci", "--", "-c", "x"]),
        (["psql", "--profile=ci", "--all-projects", "x"], ["psql", "--profile=ci", "--all-projects", "--", "x"]),
        (["--traceback", "psql", "-c", "x"], ["--traceback", "psql", "--", "-c", "x"]),
        (["psql", "--", "-c", "x"], ["psql", "--", "-c", "x"]),
        (["psql", "--help"], ["psql", "--help"]),
        (["psql"], ["psql"]),
        (["run", "--", "psql", "-c", "x"], ["run", "--", "psql", "-c", "x"]),
        (["explain", "psql"], ["explain", "psql"]),
        ([], []),
    ],
)
def test_options_of_psql_are_told_from_elefasts(words: list[str], expected: list[str]) -> None:
    """Elefast's stand before all others."""
    assert separated(words) == expected


def test_what_runs_is_known_while_it_runs(inside: Path, env: dict[str, str]) -> None:
    """Of each test that has a database; the file is gone with the stack, and never has a password."""
    place = Path(os.environ["_ELEFAST_ROOT"]) / "caches"
    before = set(place.glob("running-*"))
    with elefast.from_config(inside) as stack:
        first, second = stack.checkout("a long name " * 40), stack.checkout("short")
        (file,) = set(place.glob("running-*")) - before
        assert file.stat().st_mode & 0o777 == 0o600
        assert current_checkouts.current(os.environ)[first.name] == ("stack-tests", "a long name " * 40)
        first.release()
        assert first.name not in current_checkouts.current(os.environ)
        assert current_checkouts.current(os.environ)[second.name] == ("stack-tests", "short")
        second.release()
    assert set(place.glob("running-*")) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"databases": []}', '{"databases": {"x": "y"}}', "\xff"])
def test_a_broken_record_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Whatever a killed process, or another program, has left there; so is what another user may write."""
    monkeypatch.setenv("_ELEFAST_ROOT", str(tmp_path))
    place = tmp_path / "caches"
    place.mkdir()
    (place / "running-broken.json").write_text(text, encoding="latin-1")
    (place / "running-open.json").write_text('{"project": "p", "databases": {"a": "b"}}\n')
    (place / "running-open.json").chmod(0o666)
    assert current_checkouts.current({}) == {}


def test_errors_are_json_where_json_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With code, message and place, on the standard output alone; the exit status is the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.elefast]\nmigrator = "none"\ndocker.prot = 1\npostgres = 7\n')
    assert main(["ls", "--json"]) == 2
    written = capsys.readouterr()
    assert written.err == ""
    error = json.loads(written.out)["error"]
    assert (error["code"], error["where"], error["exit_status"]) == ("unknown-key", "pyproject.toml:3", 2)
    assert "did you mean" in error["message"]
    assert [one["key"] for one in error["problems"]][:2] == ["docker.prot", "postgres"]
    monkeypatch.setattr("elefast.factory.from_config", lambda **_: 1 / 0)
    assert main(["ls", "--json"]) == 70
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "internal"


def _program(directory: Path, text: str) -> None:
    directory.mkdir()
    (directory / "psql").write_text(f"#!/bin/sh\n{text}\n")
    (directory / "psql").chmod(0o755)


def test_a_psql_that_does_not_run_is_passed_over(
    inside: Path, tmp_path: Path, psql: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as Debian's wrapper without a client; where there is no other, the error says what it said."""
    _program(
        tmp_path / "wrapper",
        "echo 'You must install at least one client' >&2; exit 1",
    )
    with_wrapper = f"{tmp_path / 'wrapper'}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", with_wrapper)
    assert _psql(capfd, "-XAtc", "select 7")[0] == "7"
    monkeypatch.setenv("PATH", str(tmp_path / "wrapper"))
    monkeypatch.setattr("elefast.providers.local.binaries.USUAL_PLACES", ())
    monkeypatch.setattr("elefast.providers.local.binaries.WHEELS", ())
    assert main(["psql"]) == 3
    message = capfd.readouterr().err
    assert f"{tmp_path / 'wrapper' / 'psql'}: You must install at least one client" in message


def test_the_psql_of_the_server_comes_first(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version fits, whatever is on the PATH."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("ELEFAST_PROVIDER", "local")
    monkeypatch.setenv("ELEFAST_LOCAL__REUSE", "false")
    _program(tmp_path / "first", "echo taken")
    monkeypatch.setenv("PATH", f"{tmp_path / 'first'}{os.pathsep}{os.environ['PATH']}")
    with elefast.from_config() as stack:
        lease = stack.admin().lease
        assert isinstance(lease, LocalLease)
        program = Path(lease.bin_dir, "psql")
        version = stack.admin().version
    if not program.exists():
        pytest.skip("this server's installation has no psql")
    assert _psql(capfd, "-XAtc", "show server_version")[0].startswith(version)


def test_down_spares_a_server_with_what_others_kept(
    project: Path, other: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its data go with it; projects of one configuration share such a server."""
    local: dict[str, Any] = {"provider": "local", "local": {"reuse": False}, "pool": {"size": 0}}
    kept: list[str] = []
    for path, name in ((project, "mine"), (other, "theirs")):
        with elefast.from_config(path, env={}, **local) as stack:
            stack.checkout(f"test_it.py::test_{name}").release(keep="always")
            kept.append(stack.report().kept[-1].dsn)
    monkeypatch.chdir(project)
    message = said("down")
    assert "other projects have kept (other-project 1)" in message
    for dsn in kept:
        psycopg.connect(dsn).close()
    assert "stopped PostgreSQL" in said("down", "--all-projects")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(kept[0])

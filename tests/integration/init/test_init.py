"""`elefast init` in five projects, and then pytest: green without an edit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest

from elefast.config.schema import get_schema
from tests.guarantees.projects.project_support import Project
from tests.integration.init.prepared import PREPARED


@pytest.fixture(params=list(PREPARED))
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the prepared projects."""
    return str(request.param)


@pytest.fixture
def own_database(server_url: str) -> Generator[str]:
    """A database as hand-written fixtures expect it: there already."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create database shop_test")
        try:
            yield server_url.rpartition("/")[0] + "/shop_test"
        finally:
            connection.execute("drop database shop_test with (force)")


@pytest.fixture
def prepared(tmp_path: Path, server_url: str, kind: str, own_database: str) -> Project:
    """A project in the state before."""
    root = tmp_path / "shop"
    root.mkdir()
    PREPARED[kind](root)
    env = {
        **os.environ,
        "ELEFAST_ENGINE__URL": server_url,
        "TEST_DATABASE_URL": own_database,
        "PYTHONDONTWRITEBYTECODE": "1",
        "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/production",
    }
    return Project(root, env)


def init(project: Project, *arguments: str, status: int = 0) -> str:
    """Run the command as a user without a terminal does; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "elefast.cli", "init", *arguments],
        cwd=project.path,
        env=dict(project.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


EXPECTED = {
    "empty": {"migrator": "none"},
    "models": {"migrator": "metadata", "metadata": {"target": "shop.models:Base"}},
    "alembic_sync": {
        "migrator": "alembic",
        "export_env": ["DATABASE_URL"],
        "patch": ["shop.db:engine", "shop.db:SessionLocal"],
    },
    "alembic_async": {
        "migrator": "alembic",
        "export_env": ["DATABASE_URL=postgresql+asyncpg"],
        "patch": ["shop.db:engine", "shop.db:sessions"],
    },
    "hand_written": {"migrator": "metadata", "metadata": {"target": "shop.models:Base"}},
}
PASSED = {"empty": 2, "models": 3, "alembic_sync": 3, "alembic_async": 3, "hand_written": 4}


def test_init_then_pytest_is_green(prepared: Project, kind: str) -> None:
    """Two commands, no edit; a second init changes nothing, and what was there is there."""
    before = {path: path.read_bytes() for path in prepared.path.rglob("*") if path.is_file()}
    said = init(prepared)
    assert "✓ one database" in said
    overlay = prepared.path / "elefast.toml"
    file = overlay if kind == "empty" else prepared.path / "pyproject.toml"
    document = tomllib.loads(file.read_text())
    assert (document if kind == "empty" else document["tool"]["elefast"]) == EXPECTED[kind]
    for path, content in before.items():
        now = path.read_bytes()
        assert now.startswith(content) if path == file else now == content
    assert f"{PASSED[kind]} passed" in prepared.pytest().text
    written = {path: path.read_bytes() for path in prepared.path.rglob("*") if path.is_file()}
    assert "nothing was changed" in init(prepared, "--no-run")
    assert {path: path.read_bytes() for path in prepared.path.rglob("*") if path.is_file()} == written


@pytest.mark.parametrize("kind", ["hand_written"], indirect=True)
def test_hand_written_fixtures_keep_their_names(prepared: Project) -> None:
    """The example does not use the hidden one, and the user is told of it."""
    said = init(prepared, "--no-run")
    assert "! conftest.py:20 has a fixture `db_session` of its own, which wins over elefast's" in said
    example = (prepared.path / "tests/test_elefast_example.py").read_text()
    assert "elefast_db" in example
    assert "db_session" not in example


@pytest.mark.parametrize("kind", ["alembic_sync"], indirect=True)
def test_a_dry_run_writes_nothing(prepared: Project) -> None:
    """Not one file, and no server is asked."""
    before = sorted(prepared.path.rglob("*"))
    said = init(
        Project(prepared.path, {**prepared.env, "ELEFAST_ENGINE__URL": "postgresql://127.0.0.1:1/x"}), "--dry-run"
    )
    assert '    migrator = "alembic"  # alembic.ini as it is; env.py needs no change' in said
    assert "test_elefast_example.py:" in said
    assert sorted(prepared.path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["models"], indirect=True)
def test_json_has_what_was_written_and_seen(prepared: Project) -> None:
    """For programs; the keys are those of the manual."""
    told = json.loads(init(prepared, "--json"))
    assert set(told) == {"configuration", "example", "notes", "stack", "tests"}
    assert told["configuration"]["file"] == "pyproject.toml"
    assert told["stack"]["tables"] == 2
    assert told["tests"]["exit_status"] == 0


@pytest.mark.parametrize("kind", ["models"], indirect=True)
def test_what_was_written_stays_where_the_server_does_not_answer(prepared: Project) -> None:
    """The error is that of the server, with its exit status and its code."""
    away = Project(prepared.path, {**prepared.env, "ELEFAST_ENGINE__URL": "", "ELEFAST_PROVIDER": "url"})
    said = init(away, status=2)
    assert "engine.url" in said
    assert "more: elefast explain" in said
    assert "[tool.elefast]" in (prepared.path / "pyproject.toml").read_text()


@pytest.mark.parametrize("kind", ["models", "alembic_async"], indirect=True)
@pytest.mark.parametrize("options", [[], ["--async"], ["--sync"], ["--async", "--sync"]])
def test_a_conftest_is_printed_into_a_file(prepared: Project, options: list[str], kind: str) -> None:
    """As it has always been; the fixtures run, also in a project without a configuration."""
    for name in ("tests/test_one.py", "pyproject.toml"):
        (prepared.path / name).parent.mkdir(exist_ok=True)
    with open(prepared.path / "conftest.py", "w") as file:
        subprocess.run(
            [sys.executable, "-m", "elefast.cli", "init", "--no-interaction", *options],
            cwd=prepared.path,
            env=dict(prepared.env),
            stdout=file,
            check=True,
        )
    assert "[tool.elefast]" not in (prepared.path / "pyproject.toml").read_text()
    tests = ["from sqlalchemy import text", "import pytest"]
    if "--async" in options or (kind == "alembic_async" and "--sync" not in options):
        tests += [
            "@pytest.mark.asyncio",
            "async def test_async(async_db_session):",
            "    assert await async_db_session.scalar(text('select count(*) from tag')) == 0",
        ]
    if "--sync" in options or (kind == "models" and "--async" not in options):
        tests += [
            "def test_sync(db_session):",
            "    assert db_session.scalar(text('select count(*) from tag')) == 0",
        ]
    (prepared.path / "tests/test_one.py").write_text("\n".join(tests) + "\n")
    count = sum("def test_" in line for line in tests)
    assert count
    assert f"{count} passed" in prepared.pytest().text


@pytest.mark.parametrize("kind", ["models"], indirect=True)
def test_a_test_of_the_users_own_imports_the_project(prepared: Project) -> None:
    """With the command `pytest`, which does not put the working directory on the import path."""
    prepared.write(
        "tests/test_own.py", "from shop.models import Tag\n\ndef test_own(db_session):\n    db_session.add(Tag())\n"
    )
    init(prepared, "--no-run")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "tests/test_own.py"],
        cwd=prepared.path,
        env=dict(prepared.env),
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("kind", ["alembic_sync"], indirect=True)
def test_check_agrees_with_what_init_wrote(prepared: Project) -> None:
    """Also where the patched module reads its variable when it is imported."""
    init(prepared, "--no-run", "--yes")
    env = {name: value for name, value in prepared.env.items() if name != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "elefast.cli", "check", "--json"],
        cwd=prepared.path,
        env=env,
        capture_output=True,
        text=True,
    )
    found = {finding["probe"]: finding for finding in json.loads(done.stdout)}
    assert found["targets"]["status"] == "ok", found["targets"]
    assert [name for name, finding in found.items() if finding["status"] == "failed"] == []


@pytest.mark.parametrize("kind", ["alembic_sync"], indirect=True)
def test_a_table_that_the_database_lacks_is_a_failure(prepared: Project) -> None:
    """A model without a revision: both the example and init say so."""
    with (prepared.path / "shop" / "models.py").open("a") as file:
        file.write(
            "\nclass Late(Base):\n    __tablename__ = 'late'\n    id: Mapped[int] = mapped_column(primary_key=True)\n"
        )
    said = init(prepared, "--yes", status=1)
    assert "✗ one database" in said
    assert "missing   1 tables that the models declare: late" in said
    assert "assert ['late'] == []" in said


@pytest.mark.parametrize("kind", ["models"], indirect=True)
def test_yes_writes_also_where_the_output_is_a_file(prepared: Project) -> None:
    """What was a conftest in the log before."""
    with (prepared.path / "log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "elefast.cli", "init", "--yes", "--no-run"],
            cwd=prepared.path,
            env=dict(prepared.env),
            stdout=log,
            check=True,
        )
    assert "pyproject.toml: added" in (prepared.path / "log").read_text()
    assert "[tool.elefast]" in (prepared.path / "pyproject.toml").read_text()


@pytest.mark.parametrize("kind", ["models"], indirect=True)
def test_options_that_contradict_each_other_are_an_error(prepared: Project) -> None:
    """A printed conftest may have fixtures of both kinds; the example test is one or the other."""
    before = sorted(prepared.path.rglob("*"))
    said = init(prepared, "--yes", "--async", "--sync", status=2)
    assert "--async and --sync contradict each other" in said
    assert "contradicting-options" in said
    assert sorted(prepared.path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["models"], indirect=True)
def test_the_end_of_the_input_is_a_no(prepared: Project) -> None:
    """Ctrl-D at the prompt: one line, no traceback, and nothing is written."""
    pty = pytest.importorskip("pty")
    before = sorted(prepared.path.rglob("*"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "elefast.cli", "init"],
        cwd=prepared.path,
        env=dict(prepared.env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
        while chunk := os.read(ours, 1024):
            said += chunk
            if said.rstrip().endswith(b":") and b"[y/n]" in said:
                os.write(ours, b"\x04")
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"nothing was written" in said
    assert b"Traceback" not in said
    assert sorted(prepared.path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["empty"], indirect=True)
def test_the_schema_line_leads_to_a_file(prepared: Project) -> None:
    """Which is what `elefast schema` prints, so that an editor can check what is written."""
    init(prepared, "--no-run")
    text = (prepared.path / "elefast.toml").read_text()
    assert text.startswith("#:schema ./elefast.schema.json\n")
    assert json.loads((prepared.path / "elefast.schema.json").read_text()) == get_schema()
    assert shutil.which("taplo", path=str(Path(sys.executable).parent))
    for linter in (["tombi", "lint", "--offline"], ["taplo", "lint"]):
        lint = [str(Path(sys.executable).with_name(linter[0])), *linter[1:], "elefast.toml"]
        assert subprocess.run(lint, cwd=prepared.path, capture_output=True).returncode == 0
        prepared.write("elefast.toml", text.replace('migrator = "none"', 'migrator = "nome"'))
        assert subprocess.run(lint, cwd=prepared.path, capture_output=True).returncode != 0
        prepared.write("elefast.toml", text)

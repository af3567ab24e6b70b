"""`elefast init` in five projects, and then pytest: green without an edit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest

from tests.init.prepared import PREPARED
from tests.projects.project_support import Project


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

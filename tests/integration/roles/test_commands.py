"""The commands that know roles: run, psql, prune."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from elefast.cli import main
from tests.integration.roles.conftest import TENANTS
from tests.support.dumps import psqls

WHO = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    print(connection.execute("select current_user").fetchone()[0])
"""


@pytest.fixture
def inside(
    tmp_path: Path, env: dict[str, str], role: str, monkeypatch: pytest.MonkeyPatch, admin: psycopg.Connection
) -> Path:
    """A project with two roles as the working directory."""
    (tmp_path / "schema.sql").write_text(TENANTS)
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "{role}"\n[tool.elefast]\nmigrator = "sql"\nsql.files = ["schema.sql"]\nrole = "{role}"\n'
        f'[tool.elefast.roles.{role}]\ngrants = "write"\n[tool.elefast.roles.{role}_b]\ngrants = "read"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELEFAST_ENGINE__URL", env["ELEFAST_ENGINE__URL"])
    return tmp_path


def _run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "elefast.cli", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _roles(admin: psycopg.Connection, role: str) -> set[str]:
    return {name for (name,) in admin.execute("select rolname from pg_roles where starts_with(rolname, %s)", [role])}


@pytest.mark.usefixtures("inside")
def test_run_and_prune(role: str, admin: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    """The command has the role of the tests, another one or the server's user; prune drops roles with the templates."""
    assert _run("run", "--", sys.executable, "-c", WHO) == role
    assert _run("run", "--role", f"{role}_b", "--", sys.executable, "-c", WHO) == f"{role}_b"
    assert _run("run", "--role=", "--", sys.executable, "-c", WHO) == admin.info.user
    assert main(["prune"]) == 0
    assert _roles(admin, role) == {role, f"{role}_b"}
    capsys.readouterr()
    assert main(["prune", "--all", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["roles"] == [role, f"{role}_b"]
    assert _roles(admin, role) == {role, f"{role}_b"}
    assert main(["prune", "--all"]) == 0
    assert f"dropped role {role}_b\n" in capsys.readouterr().out
    assert _roles(admin, role) == set()


@pytest.mark.usefixtures("inside")
def test_psql_as_a_role(role: str) -> None:
    """psql connects as the role that is named, and else as the server's user."""
    if not psqls():
        pytest.skip("needs psql")
    assert _run("psql", "--role", role, "-Atc", "select current_user") == role
    assert _run("psql", "--profile=", "-Atc", "select rolsuper from pg_roles where rolname = current_user") == "t"
    main(["prune", "--all"])


@pytest.mark.usefixtures("inside")
def test_an_undeclared_role(capsys: pytest.CaptureFixture[str]) -> None:
    """It is an error with its code, and nothing runs."""
    assert main(["run", "--role", "nobody_x", "--", sys.executable, "-c", "print('ran')"]) == 2
    shown = capsys.readouterr()
    assert 'role "nobody_x" is not declared' in shown.err
    assert "elefast explain unknown-role" in shown.err
    main(["prune", "--all"])

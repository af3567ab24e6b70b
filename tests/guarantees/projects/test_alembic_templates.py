"""What `alembic init` writes, unedited, under servers made from the configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guarantees.projects.project_support import Project

TEST = """
import asyncio
import elefast
from sqlalchemy import text

def test_sync(db_session):
    assert db_session.scalar(text("select count(*) from second")) == 0

def test_async(async_db):
    async def main():
        async with async_db.session() as session:
            assert await session.scalar(text("select count(*) from second")) == 0
    asyncio.run(main())

def test_servers_inside_a_running_loop():
    async def main():
        stack = elefast.from_config()
        with stack.server.create_database() as database, database.session() as session:
            assert session.scalar(text("select count(*) from first")) == 0
        async with await stack.async_server.create_database() as database:
            async with database.session() as session:
                assert await session.scalar(text("select count(*) from first")) == 0
    asyncio.run(main())
"""


@pytest.mark.parametrize("template", ["generic", "async", "pyproject", "pyproject_async"])
def test_stock_templates_work_unedited(project: Project, template: str) -> None:
    """Two revisions made by `alembic revision`, no edit of env.py, sync and async servers."""
    project.write("pyproject.toml", '[project]\nname = "x"\n')
    alembic(project.path, "init", "-t", template, "migrations")
    for name in ("first", "second"):
        alembic(project.path, "revision", "-m", name)
        (revision,) = (project.path / "migrations" / "versions").glob(f"*_{name}.py")
        text = revision.read_text().replace(
            '"""Upgrade schema."""\n    pass', f'op.execute("create table {name} (id int)")', 1
        )
        assert "create table" in text
        revision.write_text(text)
    with (project.path / "pyproject.toml").open("a") as file:
        file.write("\n[tool.elefast]\n")
    project.write("test_it.py", TEST)
    outcome = project.pytest("-W", "error")
    assert "3 passed" in outcome.text
    assert project.pytest().template.startswith("reused")


def test_multidb_is_refused_with_a_clear_error(project: Project) -> None:
    """One template is one database."""
    project.write("pyproject.toml", "[tool.elefast]\n")
    alembic(project.path, "init", "-t", "multidb", "migrations")
    project.write("test_it.py", "def test_it(db): pass\n")
    outcome = project.pytest(passes=False)
    assert outcome.status == 1
    assert "several databases" in outcome.text


def alembic(path: Path, *arguments: str) -> None:
    """Run Alembic's own command line."""
    subprocess.run([sys.executable, "-m", "alembic", *arguments], cwd=path, check=True, capture_output=True)

"""What the tests of the migrators share: little projects, and questions to a database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL

from elefast.postgres.urls import dsn


def dsn_of(url: URL) -> str:
    """`url` for psycopg."""
    return dsn(url)


def query(url: URL, statement: str) -> list[tuple[Any, ...]]:
    """The rows that `statement` gives in the database at `url`."""
    with psycopg.connect(dsn_of(url)) as connection:
        return connection.execute(statement.encode()).fetchall()


def tables(url: URL, schema: str = "public") -> list[str]:
    """The tables in a schema, sorted."""
    rows = query(url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' ORDER BY 1")
    return [row[0] for row in rows]


def _initialised(cache: Path, template: str, directory: str) -> Path:
    """A directory with what ``alembic init`` makes; starting Alembic takes longer than all the rest of a test."""
    place = cache / f"{template}-{directory}"
    if place.is_dir():
        return place
    package = find_spec("alembic")
    assert package is not None
    assert package.origin is not None
    if not (Path(package.origin).parent / "templates" / template).is_dir():
        pytest.skip(f"this Alembic has no template {template}")
    place.mkdir()
    subprocess.run(
        [sys.executable, "-m", "alembic", "init", "-t", template, directory],
        cwd=place,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return place


@dataclass
class Project:
    """A directory with files that a test writes.

    Args:
        root: The directory.
        cache: Where Alembic's templates are kept for the tests of this run.
    """

    root: Path
    cache: Path

    def below(self, path: str) -> Project:
        """Another project in a directory of this one."""
        (self.root / path).mkdir()
        return Project(self.root / path, self.cache)

    def write(self, path: str, text: str = "") -> Path:
        """Write a file, with the indentation of `text` taken away; its path."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text), encoding="utf-8")
        return target

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace text that must be there in a file."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, text
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def alembic_init(self, template: str = "generic", directory: str = "migrations") -> None:
        """What ``alembic init`` makes, with two revisions: tables ``first`` and ``second``."""
        shutil.copytree(_initialised(self.cache, template, directory), self.root, dirs_exist_ok=True)
        if template != "multidb":
            self.revision("0001", None, "CREATE TABLE first (id int PRIMARY KEY)", directory)
            self.revision("0002", "0001", "CREATE TABLE second (id int PRIMARY KEY)", directory)

    def revision(
        self, name: str, down: str | None, statement: str, directory: str = "migrations", extra: str = ""
    ) -> Path:
        """Write a revision that executes one statement."""
        return self.write(
            f"{directory}/versions/{name}_it.py",
            f"""\
            from alembic import op

            revision = {name!r}
            down_revision = {down!r}
            branch_labels = None
            depends_on = None
            {extra}


            def upgrade():
                op.execute({statement!r})


            def downgrade():
                pass
            """,
        )

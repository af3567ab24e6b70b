"""A project whose tests give one secret away wherever a secret could show, and use another one as any project does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.guarantees.passwords.search import Secret, Watch, in_files
from tests.guarantees.projects.project_support import Outcome
from tests.robustness.companions.plugins import without
from tests.robustness.faults.server import Server

__all__ = ["World"]

CONFIGURATION = """
[project]
name = "secrets"
[tool.elefast]
export_env = ["DATABASE_URL", "ASYNC_URL=postgresql+asyncpg"]
patch = ["app:ENGINE", "app:URL"]
{keys}
[tool.pytest.ini_options]
pythonpath = ["."]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""

APP = """
import os
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Note(Base):
    __tablename__ = "note"
    body: Mapped[str] = mapped_column(primary_key=True)

URL = os.environ.get("DATABASE_URL", "")
ENGINE = create_engine("postgresql+psycopg://nowhere.invalid/x")
"""

TESTS = """
import logging, os, subprocess, sys
import app
import pytest
from sqlalchemy import text

PLANT, SEEN = os.environ["PLANT"], os.environ["SEEN"]
WAIT = 'n=0; while [ ! -e "$1" ] && [ $n -lt 500 ]; do sleep .02; n=$((n+1)); done'

def test_a_secret_is_given_away(db, db_session):
    print(PLANT)
    logging.getLogger("app").debug(PLANT)
    db_session.execute(text("select 1 -- " + PLANT))
    with open(os.path.join(os.environ["TMPDIR"], "planted"), "w") as file:
        file.write(PLANT)
    someone = {"user": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    command = ["/bin/sh", "-c", WAIT, "sh", SEEN]
    with (
        subprocess.Popen([*command, PLANT]),
        subprocess.Popen(command, cwd="/", env={"PATH": os.environ["PATH"], "PLANT": PLANT}, **someone),
    ):
        pass
    assert db.name == PLANT, "on purpose"

@pytest.mark.parametrize("n", range(3))
def test_a_session(db, db_session, n):
    db_session.execute(text("insert into note values ('a')"))
    db_session.commit()
    with app.ENGINE.connect() as connection:
        assert connection.scalar(text("select count(*) from note")) == 1
    assert n, "on purpose"

async def test_async(async_db, async_db_session):
    await async_db_session.execute(text("insert into note values ('a')"))
    await async_db_session.commit()
    print(repr(async_db), async_db.url, async_db.engine, async_db.server)
    assert not async_db, "on purpose"

def test_a_statement_fails(db, db_session):
    db_session.execute(text("selekt"))

def test_a_connection_is_left(db):
    LEFT.append(db.engine.connect())

LEFT = []

def test_what_a_person_looks_at(request, db, db_server, elefast_stack):
    for one in (db, db.url, db.engine, db_server, db_server.url, db_server.engine, elefast_stack, elefast_stack.url,
                elefast_stack.settings, elefast_stack.provenance, elefast_stack.report(), db.sessionmaker,
                request.config, request.session, request.node):
        print(repr(one), str(one))
    raise RuntimeError(f"{db!r} {elefast_stack!r}")
"""

FILES = {
    "schema.sql": "create table note (body text primary key);\n",
    "alembic.ini": "[alembic]\nscript_location = %(here)s/migrations\n",
    "migrations/env.py": """
import logging
from alembic import context
from sqlalchemy import create_engine

logging.basicConfig(level="DEBUG")
with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
""",
    "migrations/versions/0001.py": """
from alembic import op

revision, down_revision = "0001", None

def upgrade():
    op.execute("create table note (body text primary key)")
""",
    "migrate.py": """
import os, sys
import psycopg

print(dict(os.environ), file=sys.stderr)
with psycopg.connect("") as connection:
    connection.execute(open(sys.argv[1]).read())
""",
}

ALL_SAID = ("-vv", "--showlocals", "--tb=long", "-rA", "--log-level=DEBUG", "--elefast-report")
"""As talkative as pytest can be."""


class World:
    """One project, whose server is named by a URL with the secret or is one of elefast's own.

    Args:
        path: A directory for it.
        server: Where the role `app` has the password.
        secret: That password.
    """

    def __init__(self, path: Path, server: Server, secret: Secret) -> None:
        self.server, self.secret = server, secret
        self.path, self.home, self.temporary = path / "project", path / "home", path / "tmp"
        self.root = server.data.parent / "root"
        self.plant = Secret()
        self.seen = path / "seen"
        for directory in (self.path, self.home, self.temporary):
            directory.mkdir()
        # The process of somebody else looks for the file `seen`.
        for directory in (path, *path.parents):
            if directory.stat().st_uid == os.geteuid() and directory.name.startswith(("pytest-", "test_", "popen-")):
                directory.chmod(directory.stat().st_mode | 0o011)
        self.root.mkdir(exist_ok=True, mode=0o711)
        self.root.chmod(0o711)
        self.write("app.py", APP)
        self.write("test_it.py", TESTS)
        for name, text in FILES.items():
            self.write(name, text)
        self.configure('migrator = "sql"\nsql.files = ["schema.sql"]')
        self._logged = server.log.stat().st_size

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def configure(self, keys: str) -> None:
        """Write the configuration."""
        self.write("pyproject.toml", CONFIGURATION.format(keys=keys))

    def url(self, password: bool = True, driver: str = "postgresql", port: int = 0) -> str:
        """The server's URL for the role `app`."""
        secret = f":{quote(self.secret.text, safe='')}" if password else ""
        return f"{driver}://app{secret}@127.0.0.1:{port or self.server.port}/postgres"

    def environment(self, **more: str) -> dict[str, str]:
        """Of every process of the project."""
        base = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        return {
            **base,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "_ELEFAST_ROOT": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "default",
            "PLANT": self.plant.text,
            "SEEN": str(self.seen),
            **more,
        }

    def run(self, *command: str, **more: str) -> Outcome:
        """Run a Python module there."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.path,
            env=self.environment(**more),
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=180,
        )
        return Outcome(done.returncode, done.stdout)

    def command(self, *arguments: str, **more: str) -> Outcome:
        """Run a command of elefast's there."""
        return self.run("elefast.cli", *arguments, **more)

    def pytest(self, *arguments: str, env: Mapping[str, str], plants: bool = True) -> Outcome:
        """Run the tests, with all said that can be said, and look for the secret everywhere.

        Args:
            arguments: Further ones of pytest.
            env: Further variables.
            plants: Whether there is a database for the tests, so that they give the other secret away.
        """
        files = ("--junitxml=junit.xml", "--log-file=log.txt", "--log-file-level=DEBUG")
        directories = self.path, self.home, self.temporary, self.root
        with Watch(self.secret, self.plant, directories, self.seen) as watch:
            done = self.run("pytest", "-p", "no:cacheprovider", *without(), *ALL_SAID, *files, *arguments, **env)
        self.check(done.text, watch)
        if plants:
            assert self.plant.is_in(done.text), done.text
            assert {"files", "cmdline"} <= watch.planted, done.text
            assert os.geteuid() != 0 or "environ" in watch.planted
            # Workers write no log file.
            for name in ("junit.xml", *(() if "-n" in arguments else ("log.txt",))):
                assert self.plant.is_in((self.path / name).read_bytes()), name
        return done

    def check(self, text: str, watch: Watch | None = None) -> None:
        """The secret is nowhere that somebody else may look."""
        if self.secret.is_in(text):
            lines = [f"{number}: {line}" for number, line in enumerate(text.splitlines()) if self.secret.is_in(line)]
            pytest.fail("the output has the password:\n" + "\n".join(lines[:10]) + f"\n\nin\n{text}", pytrace=False)
        if watch is not None:
            assert watch.hits == set()
            assert {path: why for path, why in watch.files.items() if why} == {}
        assert in_files(self.secret, self.path, self.home, self.temporary, self.root) == []
        assert not self.secret.is_in(self.logged())

    def logged(self) -> bytes:
        """What the server has written down since the project is there."""
        with self.server.log.open("rb") as log:
            log.seek(self._logged)
            return log.read()

    def clear(self, names: Sequence[str] = ()) -> None:
        """Drop what the runs left on the server."""
        for name in names or self.server.names():
            self.server.ask(f'alter database "{name}" with is_template false')
            self.server.ask(f'drop database "{name}" with (force)')

"""All that elefast does, one thing after the other, where there are things that look like its own and are not."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guarantees.projects.project_support import Project
from tests.robustness.crashes.places import LocalPlace, Place, UrlPlace
from tests.robustness.faults.server import Server

CONFIGURATION = """
[project]
name = "safety"
[tool.elefast]
migrator = "sql"
sql.files = ["schema.sql"]
keep = "failed"
pool.size = 2
template.keep = 0
"""
TESTS = """
import os, signal
import pytest
from sqlalchemy import text

@pytest.mark.parametrize("n", range(4))
def test_it(db_session, n):
    db_session.execute(text("insert into note values ('a')"))
    db_session.commit()
    assert n != 2 or "KILLED" in os.environ
    if n == 3 and "KILLED" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
"""
STEPS = (
    "killed",
    "pytest -n 2",
    "edit",
    "elefast.cli template build --force",
    "elefast.cli run --keep -- true",
    "killed",
    "elefast.cli prune",
    "elefast.cli template drop",
    "elefast.cli up",
    "elefast.cli down",
    "elefast.cli prune --all",
)


def _do(project: Project, step: str) -> None:
    if step == "edit":
        project.write("schema.sql", "create table note (body text); create table another ()")
        return
    word, *arguments = ("pytest" if step == "killed" else step).split()
    options = ("-p", "no:cacheprovider") if word == "pytest" else ()
    more = {"KILLED": "yes"} if step == "killed" else {}
    done = subprocess.run(
        [sys.executable, "-m", word, *options, *arguments],
        cwd=project.path,
        env={**project.env, **more},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=180,
    )
    expected = {"killed": -signal.SIGKILL, "pytest -n 2": 1}.get(step, 0)
    assert done.returncode == expected, f"$ {step}\n{done.stdout}"


@contextmanager
def _place(kind: str, server: Server, tmp_path: Path) -> Iterator[Place]:
    if kind == "local":
        place: Place = LocalPlace(server.data.parent / "local", reuse=True, cached=None)
    else:
        place = UrlPlace(server, tmp_path / "caches", kind)
    try:
        yield place
    finally:
        place.close()


_SHARED = """
    select 'role', rolname, oid::text from pg_roles where rolname ~ '^elefast' union all
    select 'tablespace', spcname, oid::text from pg_tablespace union all
    select 'setting', r.setrole::text, r.setconfig::text from pg_db_role_setting r where setdatabase = 0
"""


@pytest.mark.fault(
    "databases and directories that look like elefast's", how="beside all that elefast has a command for"
)
@pytest.mark.parametrize("kind", ["postgres", "local"])
def test_decoys_survive(kind: str, server: Server, tmp_path: Path) -> None:
    """Databases by name, mark and owner, directories by marker; roles and tablespaces whatever they are called."""
    name = "elefast_d0123456789ab_0_00000000"
    if not server.ask(f"select 1 from pg_roles where rolname = '{name}'"):
        server.ask(f"create role {name}")
        server.ask(f"alter role {name} set work_mem = '1234kB'")
        space = server.data.parent / "space"
        space.mkdir()
        server.account.give(str(space))
        server.ask(f"create tablespace {name} owner {name} location '{space}'")
    with _place(kind, server, tmp_path) as place:
        project = Project(tmp_path, {**os.environ, **place.env, "PYTHONDONTWRITEBYTECODE": "1"})
        project.write("pyproject.toml", CONFIGURATION)
        project.write("schema.sql", "create table note (body text)")
        project.write("test_it.py", TESTS)
        before = server.ask(_SHARED)
        assert before
        for step in STEPS:
            _do(project, step)
            assert place.touched() == [], step
        assert server.ask(_SHARED) == before
        place.let_go()


class _Decoy:
    """A server that somebody else's variables name; it counts who comes."""

    def __init__(self) -> None:
        self.visits = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def __enter__(self) -> _Decoy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


EXPORTS = """
import os
import psycopg
import pytest
import sqlalchemy
from sqlalchemy import text

SEEN = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "OTHER_URL")}

def test_at_import():
    assert all(".invalid" in url for url in SEEN.values()), SEEN

def test_it(db, db_session):
    db_session.execute(text("insert into note values ('a')"))
    for name in SEEN:
        with sqlalchemy.create_engine(os.environ[name]).connect() as connection:
            assert connection.scalar(text("select current_database()")) == db.name

async def test_async(async_db_session):
    await async_db_session.execute(text("insert into note values ('a')"))

def test_after():
    assert {os.environ[name] for name in SEEN} == set(SEEN.values())
"""


@pytest.mark.fault(
    "variables that name the application's database", how="all of them lead to a socket that counts visits"
)
@pytest.mark.parametrize("provider", ["url", "local"])
def test_the_applications_database(server: Server, tmp_path: Path, provider: str) -> None:
    """Nobody comes there, from any command or run; and the socket counts, as one look at it shows."""
    root = server.data.parent / f"variables-{provider}"
    root.mkdir(mode=0o711)
    with _Decoy() as decoy:
        service = tmp_path / "services"
        service.write_text(f"[app]\nhost=127.0.0.1\nport={decoy.port}\nuser=app\ndbname=app\n")
        url = f"postgresql+psycopg://app:secret@127.0.0.1:{decoy.port}/app"
        env = {
            **os.environ,
            "DATABASE_URL": url,
            "OTHER_URL": url,
            "SQLALCHEMY_DATABASE_URL": url,
            "PGHOST": "127.0.0.1",
            "PGHOSTADDR": "127.0.0.1",
            "PGPORT": str(decoy.port),
            "PGDATABASE": "app",
            "PGSERVICEFILE": str(service),
            "_ELEFAST_ROOT": str(root),
            "ELEFAST_PROVIDER": provider,
            "ELEFAST_LOCAL__REUSE": "false",
            **({"ELEFAST_ENGINE__URL": server.text} if provider == "url" else {}),
        }
        project = Project(tmp_path, env)
        project.write(
            "pyproject.toml",
            CONFIGURATION.replace('keep = "failed"', 'export_env = ["DATABASE_URL", "OTHER_URL"]')
            + '[tool.pytest.ini_options]\nasyncio_mode = "auto"\n',
        )
        project.write("schema.sql", "create table note (body text)")
        project.write("test_it.py", EXPORTS)
        project.pytest()
        for command in ("check", "run -- true", "prune --all"):
            _do(project, f"elefast.cli {command}")
        assert decoy.visits == 0
        # With PGSERVICE as well, which libpq puts before all others, a run is refused, or goes where it should.
        project.pytest(PGSERVICE="app", passes=False)
        assert decoy.visits == 0
        subprocess.run(
            [sys.executable, "-c", "import psycopg; psycopg.connect('')"], env=env, check=False, capture_output=True
        )
        assert decoy.visits == 1
    if provider == "url":
        for name in server.names():
            if "foreign" not in name and name.startswith("elefast_") and not name.endswith("_00000000"):
                server.ask(f'alter database "{name}" with is_template false')
                server.ask(f'drop database "{name}" with (force)')
    shutil.rmtree(root)

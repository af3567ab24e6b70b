"""A role that may create databases and no more, and databases that somebody holds whom it may not end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import elefast
from elefast.errors import ElefastError, MissingRightsError
from elefast.postgres.names import Kind, Name
from tests.guarantees.projects.project_support import Project
from tests.robustness.faults.server import Server

ROLE = "ordinary"

CONFIGURATION = """
[project]
name = "rights"
[tool.elefast]
migrator = "sql"
sql.files = ["schema.sql"]
pool.size = 1
[tool.pytest.ini_options]
filterwarnings = ["default"]
"""


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Iterator[Project]:
    """A project whose role may create databases, and has no other right; and nothing of it stays."""
    server.ask(f"create role {ROLE} login createdb password '{server.url.password}'")
    server.ask("create role another login createdb superuser password 'x'")
    url = server.url.set(username=ROLE).render_as_string(hide_password=False)
    project = Project(tmp_path, {**os.environ, "ELEFAST_ENGINE__URL": url, "OTHERS": server.text})
    project.write("pyproject.toml", CONFIGURATION)
    project.write("schema.sql", "create table note (body text)")
    yield project
    for name in _names(server):
        server.ask(f'alter database "{name}" with is_template false')
        server.ask(f'drop database "{name}" with (force)')
    server.ask(f"drop role {ROLE}")
    server.ask("drop role another")


def _names(server: Server) -> set[str]:
    owned = f"select datname from pg_database where datdba = '{ROLE}'::regrole"
    return {name for (name,) in server.ask(owned)}


def _clones(server: Server) -> set[str]:
    return {text for text in _names(server) if (name := Name.parse(text)) and name.kind is Kind.CLONE}


@pytest.mark.fault("a superuser's session on a test's database", how="a role that is not allowed to end it")
def test_a_superuser_holds_it(project: Project, server: Server) -> None:
    """One error with the session, which goes on; other tests work, and the run after its end drops the database."""
    with elefast.from_config(project.path, env=project.env) as stack:
        lent = stack.checkout("the test")
        with server.connect(database=lent.name) as somebody:
            somebody.execute("set application_name = 'monitoring'")
            with pytest.raises(MissingRightsError, match=rf"{lent.name} is in use.*\n  monitoring \(pid ") as caught:
                lent.release(wait=True)
            assert caught.value.code == "session-rights"
            kept = stack.checkout("another test")
            with server.connect(database=kept.name), pytest.raises(MissingRightsError, match=kept.name):
                kept.release(keep="always")
            assert somebody.execute("select 1").fetchone() == (1,)
            assert lent.name in _names(server)
            other = stack.checkout("the next test")
            with other.sync.engine.connect():
                pass
            other.release(wait=True)
            assert other.name not in _names(server)
            stack.close()
            assert lent.name in _names(server)
    with elefast.from_config(project.path, env=project.env) as stack:
        stack.checkout("later").release(wait=True)
        assert not {lent.name, kept.name} & _names(server)


HOLDING = """
import os
import psycopg
import pytest

LEFT = []

@pytest.mark.parametrize("n", range(4))
def test_it(db, n):
    with db.engine.connect():
        pass
    if n == 1:
        dsn = os.environ["OTHERS"].replace("+psycopg", "").rpartition("/")[0]
        LEFT.append(psycopg.connect(f"{dsn}/{db.name}", application_name="monitoring"))
"""


@pytest.mark.fault("another's session in a run of pytest", how="a test that connects as a superuser, and stays")
@pytest.mark.parametrize("leaks", ["warn", "error"])
def test_in_a_run(project: Project, server: Server, leaks: str) -> None:
    """The test is named with the session; the others are not touched by it, and the next run drops the database."""
    project.write("test_it.py", HOLDING)
    out = project.pytest(ELEFAST_LEAKS=leaks, passes=leaks == "warn")
    assert "4 passed" in out.text
    assert out.status == (leaks == "error")
    assert "test_it.py::test_it[1]" in out.text
    assert "monitoring (pid" in out.text
    assert f'role "{ROLE}" may not end the sessions on it' in out.text
    assert "may not create databases" not in out.text
    assert len(_clones(server)) == 1
    project.pytest("-k", "0")
    assert _clones(server) == set()


@pytest.mark.fault("an ordinary role's session on a test's database", how="a role with and without pg_signal_backend")
def test_another_role_holds_it(project: Project, server: Server) -> None:
    """It is ended where PostgreSQL lets us, and named where not."""
    server.ask("alter role another nosuperuser")
    with elefast.from_config(project.path, env=project.env) as stack:
        for granted in (False, True):
            lent = stack.checkout("the test")
            if granted:
                server.ask(f"grant pg_signal_backend to {ROLE}")
            with server.connect(username="another", password="x", database=lent.name) as somebody:
                if granted:
                    (leak,) = lent.release(wait=True)
                    assert leak.what == "left a connection open"
                    with pytest.raises(psycopg.OperationalError):
                        somebody.execute("select 1")
                else:
                    with pytest.raises(MissingRightsError, match="may not end the sessions on it"):
                        lent.release(wait=True)
                    assert somebody.execute("select 1").fetchone() == (1,)


DENIED = {
    "": ("no-createdb", 'ALTER ROLE "{role}" CREATEDB;'),
    "nologin": ("connect-denied", 'Allow the role to connect: ALTER ROLE "{role}" LOGIN;'),
}


@pytest.mark.fault("rights that a role does not have", how="no CREATEDB, no LOGIN")
@pytest.mark.parametrize("rights", DENIED)
def test_denied(project: Project, server: Server, rights: str) -> None:
    """One error, with what to do about it."""
    server.ask("drop role another")
    server.ask(f"create role another {rights or 'login'}")
    server.ask(f"alter role another password '{server.url.password}'")
    url = server.url.set(username="another").render_as_string(hide_password=False)
    code, advice = DENIED[rights]
    with (
        elefast.from_config(project.path, env={**project.env, "ELEFAST_ENGINE__URL": url}) as stack,
        pytest.raises(ElefastError, match=advice.format(role="another")) as caught,
    ):
        stack.server.ensure_is_ready(1)
    assert caught.value.code == code

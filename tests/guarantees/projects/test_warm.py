"""A run that finds its template imports nothing that only a build, or a first look at the configuration, needs."""

from __future__ import annotations

from tests.guarantees.projects.project_support import Project

_REVISION = """
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.execute("CREATE TABLE first (id int)")
"""
_ENV = """
from alembic import context
from sqlalchemy import create_engine

with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
"""
_TEST = """
import sys
from sqlalchemy import text

def test_it(db):
    with db.engine.connect() as connection:
        assert connection.scalar(text("select count(*) from first")) == 0
    print("\\nmodules:", *sorted(sys.modules), sep=",")
"""
_HEAVY = {
    "alembic",
    "docker",
    "elefast.config.model",
    "elefast.migrators.sandbox.parent",
    "elefast.migrators.sql",
    "packaging.specifiers",
    "pydantic",
    "pydantic_settings",
}


def _modules(text: str) -> set[str]:
    (line,) = (line for line in text.splitlines() if line.startswith("modules:"))
    return set(line.split(","))


def test_the_second_run(project: Project) -> None:
    """The first one validates and builds; the second one reads what was found, and connects."""
    project.write("pyproject.toml", '[project]\nname = "warm"\n[tool.elefast]\n')
    project.write("alembic.ini", "[alembic]\nscript_location = migrations\n")
    project.write("migrations/env.py", _ENV)
    project.write("migrations/versions/0001_first.py", _REVISION)
    project.write("test_it.py", _TEST)

    first = project.pytest("-s", "-p", "no:xdist", "-p", "no:anyio")
    second = project.pytest("-s", "-p", "no:xdist", "-p", "no:anyio")

    assert first.template.startswith("built")
    assert second.template.startswith("reused")
    assert "pydantic" in _modules(first.text)
    assert _modules(second.text) & _HEAVY == set()


def test_runs_without_databases(project: Project) -> None:
    """The header tells what is configured, and costs no more than reading it."""
    project.write("pyproject.toml", '[tool.elefast]\nmigrator = "none"\nleaks = "error"\nexport_env = ["SOME_URL"]\n')
    project.write("test_it.py", 'import sys\ndef test_it():\n    print("\\nmodules:", *sorted(sys.modules), sep=",")\n')

    first, second = project.pytest("-s"), project.pytest("-s")

    headers = [next(line for line in run.text.splitlines() if line.startswith("elefast:")) for run in (first, second)]
    assert headers[0] == headers[1]
    assert "leaks error (pyproject.toml:3)" in headers[1]
    assert _modules(second.text) & (_HEAVY | {"psycopg", "elefast.factory"}) == set()

"""The advice that an error in a migration has is that of its cause."""

from __future__ import annotations

import pytest
from sqlalchemy import URL

from elefast.errors import MigrationError
from elefast.migrators import Alembic, Function, Plan
from tests.integration.migrators.migrator_support import Project

REFUSED = """\
import psycopg, {driver}
from sqlalchemy import create_engine

def create(connection):
    url = connection.engine.url.set(drivername="postgresql+{driver}", username="nobody_like_this", password="a-secret")
    create_engine(url).connect()
"""


@pytest.mark.parametrize("form", ["CREATE EXTENSION not_there", "CREATE EXTENSION IF NOT EXISTS not_there CASCADE"])
def test_an_extension_that_the_server_does_not_have(project: Project, template: URL, form: str) -> None:
    """Also inside of a revision."""
    project.alembic_init()
    project.revision("0003", "0002", form)
    with pytest.raises(MigrationError, match="has to be installed where the server runs") as caught:
        Plan(root=project.root, migrator=Alembic()).build(template)
    assert caught.value.code == "extension-missing"
    assert "in revision 0003" in str(caught.value)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_a_login_that_is_refused(project: Project, template: URL, driver: str) -> None:
    """Whatever the driver; the password is in no message."""
    pytest.importorskip(driver)
    project.write("creating.py", REFUSED.format(driver=driver))
    with pytest.raises(MigrationError) as caught:
        Plan(root=project.root, migrator=Function("creating:create")).build(template)
    assert caught.value.code == "wrong-password"
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "code",
    [
        "import asyncio; asyncio.get_running_loop()",
        "raise RuntimeError('Working outside of application context.')",
    ],
)
def test_an_env_that_another_program_runs(project: Project, template: URL, code: str) -> None:
    """The way out is to run that program, or a function."""
    project.alembic_init()
    project.write("migrations/env.py", code)
    with pytest.raises(MigrationError, match='migrator = "callable"') as caught:
        Plan(root=project.root, migrator=Alembic()).build(template)
    assert caught.value.code == "env-needs-its-tool"


def test_another_error(project: Project, template: URL) -> None:
    """An error without a cause that is known has no advice that may be wrong."""
    project.alembic_init()
    project.revision("0003", "0002", "SELECT nonsense")
    with pytest.raises(MigrationError) as caught:
        Plan(root=project.root, migrator=Alembic()).build(template)
    assert caught.value.code == "migration-failed"

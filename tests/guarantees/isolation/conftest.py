"""A project whose tests do everything to their databases that they can, on a server of the run's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from tests.robustness.companions.plugins import without

from .project.snapshot import snapshot

HERE = Path(__file__).parent / "project"
_ROLES = ("dirt_role", "dirt_member", "dirt_group", "dirt_other", "dirt_old")


@pytest.fixture(scope="session")
def pristine(server_url: str) -> str:
    """What there is in a database that has just been made by hand, as JSON: no clone, no template, no elefast."""
    url = make_url(server_url)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as connection:
        connection.execute("CREATE DATABASE by_hand TEMPLATE template0")
    try:
        of_it = url.set(database="by_hand")
        with psycopg.connect(of_it.set(drivername="postgresql").render_as_string(False)) as connection:
            connection.execute((HERE / "schema.sql").read_text("utf-8").encode())
        engine = create_engine(of_it, poolclass=NullPool)
        with engine.connect() as connection:
            return json.dumps(snapshot(connection))
    finally:
        with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as connection:
            connection.execute("DROP DATABASE by_hand")


class Dirty:
    """A directory with the project as its package.

    Args:
        pytester: Has made the directory.
        server_url: Of the server of the tests.
    """

    def __init__(self, pytester: pytest.Pytester, server_url: str) -> None:
        self._pytester = pytester
        self._server_url = server_url

    def run(
        self, module: str, *options: str, driver: str, async_driver: str, keys: str = "", warnings: str = "default"
    ) -> pytest.RunResult:
        """Run a module of its tests in a process of its own.

        Args:
            module: Its name.
            options: Of pytest.
            driver: For sync engines.
            async_driver: For async ones.
            keys: Further lines of the configuration.
            warnings: What becomes of them.
        """
        (self._pytester.path / "pyproject.toml").write_text(
            f"""
[tool.elefast]
engine.url = "{self._server_url}"
engine.driver = "{driver}"
engine.async_driver = "{async_driver}"
migrator = "sql"
sql.files = ["project/schema.sql"]
{keys}

[tool.pytest.ini_options]
pythonpath = ["."]
asyncio_default_fixture_loop_scope = "function"
filterwarnings = ["{warnings}"]
""",
            "utf-8",
        )
        arguments = ("-p", "no:cacheprovider", *without(), f"project/{module}.py", *options)
        return self._pytester.runpytest_subprocess(*arguments, timeout=300)


@pytest.fixture
def dirty(pytester: pytest.Pytester, server_url: str, pristine: str, cluster: None) -> Dirty:
    """The project, with what a database made by hand is like."""
    package = pytester.path / "project"
    shutil.copytree(HERE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "transactions", "again", "scopes"):  # of the project's tests, not of ours
        shutil.copy(package / f"dirty_{name}.py", package / f"test_{name}.py")
    (package / "pristine.json").write_text(pristine, "utf-8")
    return Dirty(pytester, server_url)


@pytest.fixture
def cluster(server_url: str) -> Iterator[None]:
    """What the tests of the project change for all databases, as they find it; and undone afterwards."""
    url = make_url(server_url).set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(url, autocommit=True) as connection:
        for role in _ROLES[1:]:
            connection.execute(f"CREATE ROLE {role}".encode())
        yield
        connection.execute("DROP DATABASE IF EXISTS dirt_database")
        connection.execute("DROP TABLESPACE IF EXISTS dirt_space")
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("ALTER ROLE ALL RESET ALL")
        connection.execute("SELECT pg_reload_conf()")
        for role in _ROLES:
            connection.execute(f"DROP ROLE IF EXISTS {role}".encode())

"""Little projects, each with a configuration and tests of its own, run by a pytest of their own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.robustness.companions.plugins import without

# pytester forgets the modules that a session in this process imports; what must not be imported twice,
# because it is compiled or because objects of it outlive the session, is imported here first.
for _name in (
    "asyncpg",
    "psycopg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.ext.asyncio",
    "elefast.asyncio",
    "elefast.config",
    "elefast.factory",
    "elefast.isolation.engine",
    "elefast.pytest_plugin.fixtures",
    "elefast.pytest_plugin.harness",
    "elefast.pytest_plugin.application_databases",
    "elefast.pytest_plugin.patch",
    "elefast.pytest_plugin.stale_connections",
    "elefast.pytest_plugin.db_fixture",
    "elefast.pytest_plugin.async_fixtures",
    "elefast.pytest_plugin.item_options",
    "elefast.isolation.shared_database",
):
    import_module(_name)

PYTEST = """
[tool.pytest.ini_options]
pythonpath = ["."]
asyncio_default_fixture_loop_scope = "function"
filterwarnings = ["error"]
"""


# pytester does not let the variable PYTEST_ADDOPTS through.
_WITHOUT = ["-p", "no:cacheprovider", *without()]


class Project:
    """A directory with a `pyproject.toml` and tests.

    Args:
        pytester: The fixture of the same name.
        monkeypatch: The fixture of the same name.
        server: The server that its configuration may name.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
        self._pytester = pytester
        self._monkeypatch = monkeypatch
        self.server = server
        self.path: Path = pytester.path
        self.configure()

    @property
    def url(self) -> URL:
        """The server's URL."""
        return make_url(self.server)

    def configure(self, elefast: str = 'migrator = "none"', *, url: bool = True, pytest_table: str = PYTEST) -> None:
        """Write `pyproject.toml`.

        Args:
            elefast: What stands in the table; ends with top-level keys, or has further tables of its own.
            url: Whether the server of the tests is named.
            pytest_table: pytest's own configuration.
        """
        where = f'engine.url = "{self.server}"\n' if url else ""
        self.file("pyproject.toml", f"[tool.elefast]\n{where}{elefast}\n{pytest_table}")

    def file(self, name: str, text: str) -> Path:
        """Write a file; its text begins at the margin."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def tests(self, text: str) -> None:
        """Write the one test module."""
        self.file("test_it.py", text)

    def env(self, **variables: str) -> None:
        """Set variables for what runs in it."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def import_from_here(self) -> None:
        """Let entry points in the project's directory be found; pytest 8 reads `pythonpath` too late for that."""
        self._pytester.syspathinsert(self.path)

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest, in this process because that is quick; many sessions in one process have to work anyway."""
        return self._pytester.runpytest_inprocess(*_WITHOUT, *args)

    def run_apart(self, *args: str) -> pytest.RunResult:
        """Run pytest in a process of its own."""
        return self._pytester.runpytest_subprocess(*_WITHOUT, *args, timeout=300)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server_url: str) -> Project:
    """A project on the server of the tests, without migrations."""
    return Project(pytester, monkeypatch, server_url)


@pytest.fixture
def counted_at_once(server_url: str) -> None:
    """For tests with sessions that come and go, which PostgreSQL 14 counts up to half a second later."""
    with psycopg.connect(server_url.replace("+psycopg", "")) as connection:
        if connection.info.server_version < 150000:
            pytest.skip("PostgreSQL 14 counts sessions with a delay, see docs/concepts/isolation.md")


@pytest.fixture
def kept(project: Project) -> Iterator[Project]:
    """A project whose kept databases are dropped after the test."""
    yield project
    with psycopg.connect(project.server.replace("+psycopg", ""), autocommit=True) as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^elefast_k'").fetchall():
            connection.execute(f'DROP DATABASE "{name}"'.encode())

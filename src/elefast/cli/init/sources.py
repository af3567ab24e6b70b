"""What a project's Python files say, read without running them: models, engines, variables, fixtures.

Names are taken as they are written: an alias or a base class from another distribution may be overlooked, never
invented. Whoever asks decides what to make of it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Fixture", "Model", "Sources", "read"]

_AT_MOST = 3000
"""Files that are read; a project with more is better told by its owner than searched for minutes."""

_SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env"}
_URL_NAME = re.compile(r"(?i)^[a-z0-9_]*(database|db|postgres|pg|sqlalchemy)[a-z0-9_]*(url|uri|dsn)$")


@dataclass(frozen=True)
class Model:
    """A mapped class.

    Args:
        module: Where it is defined.
        name: Its name.
        base: The name of the base that has the metadata, as that module knows it.
    """

    module: str
    name: str
    base: str


@dataclass(frozen=True)
class Fixture:
    """A pytest fixture of a conftest: its name, and `file:line`."""

    name: str
    place: str


@dataclass
class Sources:
    """What was found.

    Args:
        models: Mapped classes of the application.
        metadata: Module-level `MetaData`, as `module:name`.
        engines: Module-level engines and session factories, as `module:name`.
        variables: Environment variables of the application that look like a database's URL, with `file:line`.
        test_variables: The same of tests and conftests.
        fixtures: Fixtures of conftests.
        imports: Top-level modules that are imported anywhere.
        test_imports: The same of tests and conftests.
        drivers: Drivers that stand in URLs, such as `psycopg2`.
        uses_async: Whether the application has async sessions or engines.
    """

    models: list[Model] = field(default_factory=list[Model])
    metadata: list[str] = field(default_factory=list[str])
    engines: list[str] = field(default_factory=list[str])
    variables: dict[str, str] = field(default_factory=dict[str, str])
    test_variables: dict[str, str] = field(default_factory=dict[str, str])
    fixtures: list[Fixture] = field(default_factory=list[Fixture])
    imports: set[str] = field(default_factory=set[str])
    test_imports: set[str] = field(default_factory=set[str])
    drivers: set[str] = field(default_factory=set[str])
    uses_async: bool = False


def read(root: Path, migrations: Path | None = None) -> Sources:
    """Read the Python files below `root`.

    Args:
        root: The project's directory.
        migrations: Alembic's directory, whose models and engines are nobody's.
    """
    found = Sources()
    bases = _Bases()
    trees: list[tuple[Path, str, ast.Module, bool]] = []
    for path in _files(root):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        relative = path.relative_to(root)
        if migrations is not None and path.is_relative_to(migrations):
            continue
        of_tests = _is_of_tests(relative)
        trees.append((relative, _module(root, path), tree, of_tests))
        if not of_tests:
            bases.learn(tree)
    for relative, module, tree, of_tests in trees:
        _read_anything(found, relative, tree, of_tests)
        if of_tests:
            _read_fixtures(found, relative, tree)
        elif module:
            _read_module(found, module, tree, bases)
    return found


class _Bases:
    """Names of classes that models derive from, over all modules: a base is often in another one."""

    def __init__(self) -> None:
        self.names = {"SQLModel"}

    def learn(self, tree: ast.Module) -> None:
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and any(
                _last(base) in ("DeclarativeBase", "DeclarativeBaseNoMeta") for base in node.bases
            ):
                self.names.add(node.name)
            elif isinstance(node, ast.Assign) and _called(node.value) == "declarative_base":
                self.names |= {target.id for target in node.targets if isinstance(target, ast.Name)}

    def of(self, node: ast.ClassDef) -> str:
        """The base of a mapped class, or an empty string."""
        # A table is what makes a class a mapped one; a mixin and an abstract base have none.
        if not _has_table(node):
            return ""
        return next((name for base in node.bases if (name := _last(base)) in self.names), "")


def _files(root: Path) -> Iterator[Path]:
    count = 0
    for where, directories, names in os.walk(root):
        directories[:] = sorted(
            name
            for name in directories
            if not name.startswith(".") and name not in _SKIPPED and not Path(where, name, "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if name.endswith(".py"):
                count += 1
                if count > _AT_MOST:
                    return
                yield Path(where, name)


def _is_of_tests(relative: Path) -> bool:
    name = relative.name
    return (
        name == "conftest.py"
        or name.startswith("test_")
        or name.endswith("_test.py")
        or any(part in ("tests", "test", "testing") for part in relative.parts[:-1])
    )


def _module(root: Path, path: Path) -> str:
    """The name that `path` is imported by; empty where it has none."""
    relative = path.relative_to(root)
    parts = list(relative.with_suffix("").parts)
    if parts[0] == "src" and not (root / "src" / "__init__.py").exists():
        parts = parts[1:]
    if parts and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else ""


def _read_anything(found: Sources, relative: Path, tree: ast.Module, of_tests: bool) -> None:
    imports = found.test_imports if of_tests else found.imports
    variables = found.test_variables if of_tests else found.variables
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module.partition(".")[0])
            if not of_tests and node.module.startswith("sqlalchemy.ext.asyncio"):
                found.uses_async = True
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.drivers |= set(re.findall(r"postgresql\+([a-z0-9]+)://", node.value))
        elif (name := _variable(node)) and _URL_NAME.match(name):
            variables.setdefault(name, f"{relative.as_posix()}:{getattr(node, 'lineno', 1)}")


def _variable(node: ast.AST) -> str:
    """The environment variable that this reads: `os.environ["X"]`, `os.environ.get("X")`, `os.getenv("X")`."""
    key: ast.expr | None = None
    if isinstance(node, ast.Subscript) and _last(node.value) == "environ":
        key = node.slice
    elif isinstance(node, ast.Call) and node.args:
        function = node.func
        asks = isinstance(function, ast.Attribute) and function.attr == "get" and _last(function.value) == "environ"
        if asks or _last(function) == "getenv":
            key = node.args[0]
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""


def _read_fixtures(found: Sources, relative: Path, tree: ast.Module) -> None:
    if relative.name != "conftest.py":
        return
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if _last(called) == "fixture":
                name = next(
                    (
                        word.value.value
                        for word in getattr(decorator, "keywords", ())
                        if word.arg == "name" and isinstance(word.value, ast.Constant)
                    ),
                    node.name,
                )
                found.fixtures.append(Fixture(str(name), f"{relative.as_posix()}:{node.lineno}"))


_MAKERS = {
    "create_engine",
    "create_async_engine",
    "sessionmaker",
    "async_sessionmaker",
    "scoped_session",
}


def _read_module(found: Sources, module: str, tree: ast.Module, bases: _Bases) -> None:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and (base := bases.of(node)):
            found.models.append(Model(module, node.name, base))
        value: ast.expr | None = None
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            value, targets = node.value, node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            value, targets = node.value, [node.target]
        names = [f"{module}:{target.id}" for target in targets if isinstance(target, ast.Name)]
        maker = _called(value)
        if maker in _MAKERS:
            found.engines += names
            found.uses_async |= "async" in maker
        elif maker == "MetaData":
            found.metadata += names


def _has_table(node: ast.ClassDef) -> bool:
    if any(word.arg == "table" and getattr(word.value, "value", None) is True for word in node.keywords):
        return True  # SQLModel
    return any(
        isinstance(target, ast.Name) and target.id in ("__tablename__", "__table__")
        for statement in node.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
    )


def _called(node: ast.expr | None) -> str:
    """The last name of what is called; `sessionmaker` of `sessionmaker[Session](...)` as well."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return _last(function)


def _last(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""

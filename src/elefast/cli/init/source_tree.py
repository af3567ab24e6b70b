"""Reads a project's files: chooses them, parses each Python file once, and collects what all later rules need.

Nothing of the project runs, and warnings of Python's parser are not shown.
"""

from __future__ import annotations

import ast
import gc
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["AlembicDirectory", "Call", "Module", "SourceTree", "last", "read_source_tree"]

_AT_MOST = 10_000
"""Files that are read at most."""

_SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env"}
_NO_APPLICATION = {
    "bin", "benchmarks", "demo", "demos", "dev", "doc", "docs", "example", "examples", "hooks", "notebooks", "scripts",
    "tools", "tutorial", "tutorials",
}  # fmt: skip
"""Directories whose Python files are programs for people, unless they are packages below the top."""

# Parsing takes most of the time, and no rule finds anything in a file without one of these words.
_WORDS = re.compile(
    rb"environ|getenv|sqlalchemy|SQLAlchemy|sqlmodel|SQLModel|BaseSettings|MetaData|declarative_base|__tablename__"
    rb"|create_engine|create_async_engine|sessionmaker|flask_|asyncpg|psycopg|Mapped|\.Model\b|_(?:URL|URI|DSN)\b"
)
_WORDS_OF_TESTS = re.compile(rb"environ|getenv|testcontainers|pytest_postgresql")
_AT_MOST_BYTES = 500_000
"""A larger file is generated code."""


@dataclass(frozen=True)
class Call:
    """A call, and the function that contains it.

    Args:
        node: The call.
        function: The innermost function around it; None at module level and in the body of a class.
    """

    node: ast.Call
    function: ast.FunctionDef | ast.AsyncFunctionDef | None


@dataclass
class Module:
    """One parsed file.

    Args:
        path: Where it is, relative to the project.
        name: The name that it is imported by; empty where it has none.
        kind: ``application``, ``tests``, ``alembic`` or ``script``.
        tree: Its syntax tree.
        imports: Names that imports bind at any level, each with ``module`` or ``module:attribute``.
        stars: Modules whose names are all imported.
        imported: Modules that an import at module level runs, as they are written; some may be attributes.
        values: What names are assigned at module level.
        classes: Classes at module level.
        functions: Functions and methods.
        calls: All calls.
        assignments: All assignments, with the function around them.
        reads: Subscripts such as ``environ["X"]``.
        strings: All strings.
    """

    path: Path
    name: str
    kind: str
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict[str, str])
    stars: list[str] = field(default_factory=list[str])
    imported: set[str] = field(default_factory=set[str])
    values: dict[str, ast.expr] = field(default_factory=dict[str, ast.expr])
    classes: dict[str, ast.ClassDef] = field(default_factory=dict[str, ast.ClassDef])
    functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = field(
        default_factory=list[ast.FunctionDef | ast.AsyncFunctionDef]
    )
    calls: list[Call] = field(default_factory=list[Call])
    assignments: list[tuple[list[ast.expr], ast.expr, ast.AST | None]] = field(
        default_factory=list[tuple[list[ast.expr], ast.expr, ast.AST | None]]
    )
    reads: list[ast.Subscript] = field(default_factory=list[ast.Subscript])
    strings: list[str] = field(default_factory=list[str])

    def place(self, node: ast.AST) -> str:
        """``file:line``."""
        return f"{self.path.as_posix()}:{getattr(node, 'lineno', 1)}"


@dataclass(frozen=True)
class AlembicDirectory:
    """A directory with Alembic's env.py and revisions, wherever its configuration is.

    Args:
        path: The directory, relative to the project.
        env: The text of env.py.
        tables: Tables that revisions create, as far as their names are written down.
        revisions: How many there are.
        starts: Whether a first revision creates something; else the schema is older than the revisions.
    """

    path: Path
    env: str
    tables: frozenset[str]
    revisions: int
    starts: bool


@dataclass
class SourceTree:
    """The files of a project.

    Args:
        modules: The parsed Python files.
        alembic: Alembic's directories.
        alembic_files: Alembic's ini files, relative to the project.
        sql: SQL files that create tables, relative to the project, the shallowest first.
    """

    modules: list[Module] = field(default_factory=list[Module])
    alembic: list[AlembicDirectory] = field(default_factory=list[AlembicDirectory])
    alembic_files: list[Path] = field(default_factory=list[Path])
    sql: list[Path] = field(default_factory=list[Path])

    def of_kind(self, *kinds: str) -> list[Module]:
        """The modules of these kinds."""
        return [module for module in self.modules if module.kind in kinds]


def read_source_tree(root: Path) -> SourceTree:
    """Read the project in `root`."""
    # Syntax trees are millions of objects, none of which is garbage: the collector takes longer than the parser.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _read(root)
    finally:
        if collecting:
            gc.enable()


def _read(root: Path) -> SourceTree:
    tree = SourceTree()
    files = list(_files(root))
    tree.alembic = [
        _alembic_directory(path.parent, root)
        for path in files
        if path.name == "env.py" and (path.parent / "versions").is_dir()
    ]
    in_alembic = [root / one.path for one in tree.alembic]
    for path in files:
        relative = path.relative_to(root)
        if path.suffix == ".ini":
            if path.name == "alembic.ini" or (b"[alembic]" in _bytes(path) and b"script_location" in _bytes(path)):
                tree.alembic_files.append(relative)
        elif path.suffix == ".sql":
            if not _is_of_tests(relative) and not _is_script(root, relative) and _creates_tables(path):
                tree.sql.append(relative)
        elif any(path.is_relative_to(place) for place in in_alembic):
            if path.name == "env.py":
                _add_module(tree, root, path, "alembic")
        else:
            kind = "tests" if _is_of_tests(relative) else "script" if _is_script(root, relative) else "application"
            _add_module(tree, root, path, kind)
    _find_scripts(tree)
    tree.sql.sort(key=lambda path: (len(path.parts), path))
    tree.alembic_files.sort(key=lambda path: (len(path.parts), path))
    return tree


def _files(root: Path) -> Iterator[Path]:
    count = 0
    for where, directories, names in os.walk(root):
        directories[:] = sorted(
            name
            for name in directories
            if not name.startswith(".") and name not in _SKIPPED and not Path(where, name, "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if name.endswith((".py", ".sql", ".ini")):
                count += 1
                if count > _AT_MOST:
                    return
                yield Path(where, name)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _creates_tables(path: Path) -> bool:
    return re.search(rb"(?i)\bcreate\s+(unlogged\s+)?table\b", _bytes(path)) is not None


def _is_of_tests(relative: Path) -> bool:
    name = relative.name
    return (
        name == "conftest.py"
        or (name.startswith("test_") and name.endswith(".py"))
        or name.endswith("_test.py")
        or name == "tests.py"
        or any(part in ("tests", "test", "testing") for part in relative.parts[:-1])
    )


def _is_script(root: Path, relative: Path) -> bool:
    parts = relative.parts[:-1]
    return any(
        part in _NO_APPLICATION and (index == 0 or not (root.joinpath(*parts[: index + 1]) / "__init__.py").exists())
        for index, part in enumerate(parts)
    )


def _module_name(root: Path, relative: Path) -> str:
    """The name that the file is imported by; empty where it has none."""
    parts = list(relative.with_suffix("").parts)
    if parts[0] == "src" and not (root / "src" / "__init__.py").exists():
        parts = parts[1:]
    if parts and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else ""


def _add_module(tree: SourceTree, root: Path, path: Path, kind: str) -> None:
    content = _bytes(path)
    if path.name not in ("__init__.py", "conftest.py"):  # they pass names on, or have fixtures
        words = _WORDS_OF_TESTS if kind == "tests" else _WORDS
        if not words.search(content) or len(content) > _AT_MOST_BYTES:
            return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SyntaxWarning: init does not judge the project's code
            parsed = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return
    relative = path.relative_to(root)
    module = Module(relative, _module_name(root, relative), kind, parsed)
    _collect(module, is_package=path.name == "__init__.py")
    tree.modules.append(module)


def _collect(module: Module, *, is_package: bool) -> None:
    """Collect what the rules need, in one walk over the syntax tree, since walking is slow in a large project."""
    stack: list[tuple[ast.AST, ast.FunctionDef | ast.AsyncFunctionDef | None, bool]] = [(module.tree, None, True)]
    while stack:
        node, function, at_top = stack.pop()
        kind = type(node)
        if kind in _LEAVES:
            continue
        if kind is ast.Constant:
            value: object = node.value  # type: ignore[attr-defined]
            if isinstance(value, str):
                module.strings.append(value)
            continue
        if kind is ast.Call:
            module.calls.append(Call(node, function))  # type: ignore[arg-type]
        elif kind is ast.Subscript:
            module.reads.append(node)  # type: ignore[arg-type]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            module.functions.append(node)
            function, at_top = node, False
        elif isinstance(node, ast.ClassDef):
            if at_top:
                module.classes[node.name] = node
            at_top = False
        elif isinstance(node, ast.Import | ast.ImportFrom):
            _collect_import(module, node, runs=function is None, is_package=is_package)
            continue
        elif isinstance(node, ast.If) and last(node.test) == "TYPE_CHECKING":
            for inner in node.body:  # these imports bind names, but do not run
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    _collect_import(module, inner, runs=False, is_package=is_package)
            stack += [(one, function, at_top) for one in reversed(node.orelse)]
            continue
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
            module.assignments.append((targets, node.value, function))
            if at_top:
                module.values |= {target.id: node.value for target in targets if isinstance(target, ast.Name)}
        for name in reversed(node._fields):  # so that children are taken in the order of the file
            child = getattr(node, name, None)
            if type(child) is list:
                stack += [(one, function, at_top) for one in reversed(child) if isinstance(one, ast.AST)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            elif isinstance(child, ast.AST):
                stack.append((child, function, at_top))


_LEAVES = frozenset((ast.Name, ast.Load, ast.Store, ast.Pass, ast.Global, ast.alias, ast.Break, ast.Continue))


def _collect_import(module: Module, node: ast.Import | ast.ImportFrom, *, runs: bool, is_package: bool) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            module.imports[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
            if runs:
                module.imported.add(alias.name)
        return
    source = node.module or ""
    if node.level:
        parents = module.name.split(".")
        parents = parents[: len(parents) - node.level + is_package] if module.name else []
        source = ".".join([*parents, *([node.module] if node.module else [])])
    for alias in node.names:
        if alias.name == "*":
            module.stars.append(source)
        else:
            module.imports[alias.asname or alias.name] = f"{source}:{alias.name}"
        if runs:
            module.imported |= {source, f"{source}.{alias.name}"}


def _find_scripts(tree: SourceTree) -> None:
    """A top-level program that no module imports, and that has neither models nor an application, is a script."""
    imported = {name for module in tree.modules for name in module.imported}
    for module in tree.of_kind("application"):
        if (
            len(module.path.parts) == 1
            and module.name not in imported
            and any(_is_main_guard(node) for node in module.tree.body)
            and not module.classes
            and not any(last(value.func) in _APPLICATIONS for value in _called(module))
        ):
            module.kind = "script"


_APPLICATIONS = {"FastAPI", "Flask", "Starlette", "Litestar", "Quart", "Sanic", "Celery", "Typer", "create_app"}


def _called(module: Module) -> list[ast.Call]:
    return [value for value in module.values.values() if isinstance(value, ast.Call)]


def _is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and any(
        isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test)
    )


_CREATED = re.compile(
    r"""op\.create_table\(\s*["'](\w+)["']|(?i:create\s+table\s+(?:if\s+not\s+exists\s+)?"?(?:\w+"?\."?)?(\w+))"""
    r"""|rename_table\(\s*["']\w+["'],\s*["'](\w+)["']"""
)


def _alembic_directory(path: Path, root: Path) -> AlembicDirectory:
    """Read Alembic's directory without parsing hundreds of revisions."""
    tables: set[str] = set()
    revisions, starts = 0, False
    for file in sorted((path / "versions").rglob("*.py")):
        text = _bytes(file).decode(errors="replace")
        revisions += "down_revision" in text
        if re.search(r"(?m)^down_revision\b[^=\n]*=\s*None", text):
            starts |= re.search(r"(?i)create[_ ]table|create_all|\.sql\b", text) is not None
        tables |= {name for match in _CREATED.findall(text) for name in match if name}
    env = _bytes(path / "env.py").decode(errors="replace")
    return AlembicDirectory(path.relative_to(root), env, frozenset(tables), revisions, starts or not revisions)


def last(node: ast.AST) -> str:
    """The last name of `a`, `x.a` and `a[T]`; else an empty string."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""

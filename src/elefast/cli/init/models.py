"""Which tables a project's code declares, and which names a test has to import to have all of them.

A *root* owns a `MetaData`: a declarative base, SQLModel, a Flask-SQLAlchemy extension, or the `MetaData` itself. Each
table belongs to one root, however many abstract classes and modules are between them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from elefast.cli.init.names import Names
from elefast.cli.init.source_tree import Module, SourceTree, last

__all__ = ["Declared", "Model", "find_models"]


@dataclass(frozen=True)
class Model:
    """A mapped class, or a `Table`.

    Args:
        module: The module that defines it.
        name: Its name there.
        root: Its root, as ``module:name``.
        via: A name in that module with the same metadata, as an attribute path.
        table: Its table; empty if the code does not name it.
        is_class: Whether it is a class that can be queried.
    """

    module: str
    name: str
    root: str
    via: str
    table: str
    is_class: bool


@dataclass
class Declared:
    """The models and metadata of a project.

    Args:
        models: The application's models.
        metadata: Module-level `MetaData`, as ``module:name``.
        extensions: Flask-SQLAlchemy's objects, as ``module:name``.
        targets: ``module:attribute`` of the chosen metadata; together they know all of its tables.
        tables: The names of its tables, as far as they are written down.
        others: Roots that were not chosen.
    """

    models: list[Model] = field(default_factory=list[Model])
    metadata: list[str] = field(default_factory=list[str])
    extensions: list[str] = field(default_factory=list[str])
    targets: list[str] = field(default_factory=list[str])
    tables: frozenset[str] = frozenset()
    others: list[str] = field(default_factory=list[str])


_SQLMODEL = "sqlmodel:SQLModel"
_DECLARATIVE = {"DeclarativeBase", "DeclarativeBaseNoMeta"}
_MAKERS = {"declarative_base", "generate_base", "automap_base"}


def find_models(tree: SourceTree, names: Names) -> Declared:
    """The tables of the application."""
    found = Declared()
    roots = _Roots(tree, names)
    for module in tree.of_kind("application"):
        if not module.name:
            continue
        found.metadata += [name for name, value in _calls(module) if last(value.func) == "MetaData"]
        found.extensions += [name for name, value in _calls(module) if last(value.func) == "SQLAlchemy"]
        found.models += _classes(module, roots)
        found.models += _tables(module, names, roots)
    _choose(found, tree, names)
    return found


class _Roots:
    """The root of each class, through any number of base classes."""

    def __init__(self, tree: SourceTree, names: Names) -> None:
        self._names = names
        self.roots: set[str] = set()
        self.extensions: set[str] = set()
        self._classes: dict[str, tuple[Module, ast.ClassDef]] = {}
        self._by_name: dict[str, str] = {}
        self._known: dict[str, str] = {}
        for module in tree.of_kind("application"):
            for name, node in module.classes.items():
                self._classes[f"{module.name}:{name}"] = (module, node)
                if any(last(base) in _DECLARATIVE for base in node.bases):
                    self._add(f"{module.name}:{name}")
            for name, value in module.values.items():
                if isinstance(value, ast.Call) and last(value.func) in _MAKERS:
                    self._add(f"{module.name}:{name}")
                elif isinstance(value, ast.Call) and last(value.func) == "SQLAlchemy":
                    self.extensions.add(f"{module.name}:{name}")
        # A base class from a file that was not read is recognised by its name.
        self._by_name = {root.rpartition(":")[2]: root for root in self.roots}

    def _add(self, root: str) -> None:
        self.roots.add(root)
        self._known[root] = root

    def of(self, module: Module, base: ast.expr) -> str:
        """The root that this base class leads to; empty without one."""
        name = last(base)
        if name == "SQLModel":
            return _SQLMODEL
        meaning = self._names.of(module, base)
        if meaning.endswith(".Model"):  # of Flask-SQLAlchemy: db.Model
            owner = meaning.removesuffix(".Model")
            if owner in self.extensions:
                return owner
        if meaning in self._known:
            return self._known[meaning]
        if meaning not in self._classes:
            return self._by_name.get(name, "") if not meaning or self._is_elsewhere(meaning) else ""
        self._known[meaning] = ""  # ends the recursion if broken code makes a class its own base
        self._known[meaning] = self.of_class(*self._classes[meaning])
        return self._known[meaning]

    def _is_elsewhere(self, meaning: str) -> bool:
        return self._names.module(meaning.partition(":")[0]) is None

    def name_in(self, module: Module, root: str) -> str:
        """The name of `root` in this module; empty if it has none there."""
        name = root.rpartition(":")[2]
        local = next(
            (
                local
                for local in (name, *module.imports, *module.classes, *module.values)
                if self._names.of(module, ast.Name(local)) == root or (root == _SQLMODEL and local == name)
            ),
            "",
        )
        return f"{local}.metadata" if local and root in self.extensions else local

    def of_class(self, module: Module, node: ast.ClassDef) -> str:
        return next((root for base in node.bases if (root := self.of(module, base))), "")


def _calls(module: Module) -> Iterator[tuple[str, ast.Call]]:
    for name, value in module.values.items():
        if isinstance(value, ast.Call):
            yield f"{module.name}:{name}", value


def _classes(module: Module, roots: _Roots) -> Iterator[Model]:
    for name, node in module.classes.items():
        root = roots.of_class(module, node)
        if not root or f"{module.name}:{name}" in roots.roots:
            continue
        table = _table_of(node, name, root)
        if table is not None:
            base = next(base for base in node.bases if roots.of(module, base))
            via = roots.name_in(module, root) or f"{name}.metadata"
            if root not in roots.extensions and isinstance(base, ast.Name | ast.Attribute) and "." in ast.unparse(base):
                via = ast.unparse(base)
            yield Model(module.name, name, root, via, table, is_class=True)


def _table_of(node: ast.ClassDef, name: str, root: str) -> str | None:
    """The name of the class's table; empty if the code does not name it, None if the class has no table."""
    written = _attribute(node, "__tablename__")
    if root == _SQLMODEL:
        if not any(word.arg == "table" and getattr(word.value, "value", None) is True for word in node.keywords):
            return None
        return str(written.value) if isinstance(written, ast.Constant) else name.lower()
    if getattr(_attribute(node, "__abstract__"), "value", None) is True:
        return None
    if isinstance(written, ast.Constant):
        return str(written.value)
    if written is not None or _attribute(node, "__table__") is not None:
        return ""
    # Flask-SQLAlchemy names the tables of classes that have a primary key.
    if any(
        isinstance(word, ast.keyword) and word.arg == "primary_key" and getattr(word.value, "value", None) is True
        for word in ast.walk(node)
    ) and any(last(base) == "Model" for base in node.bases):
        return re.sub(r"((?<=[a-z0-9])[A-Z]|(?!^)[A-Z](?=[a-z]))", r"_\1", name).lower().lstrip("_")
    return None


def _attribute(node: ast.ClassDef, name: str) -> ast.expr | None:
    for statement in node.body:
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return statement.value  # type: ignore[attr-defined, no-any-return]
    return None


def _tables(module: Module, names: Names, roots: _Roots) -> Iterator[Model]:
    """`Table("name", metadata, ...)` at module level."""
    for name, value in module.values.items():
        if not isinstance(value, ast.Call) or last(value.func) != "Table" or len(value.args) < 2:
            continue
        first, metadata = value.args[:2]
        table = str(first.value) if isinstance(first, ast.Constant) else ""
        via = ast.unparse(metadata)
        if isinstance(metadata, ast.Attribute) and metadata.attr == "metadata":
            root = roots.of(module, metadata.value) or names.of(module, metadata.value)
        else:
            root = names.of(module, metadata)
        if root:
            yield Model(module.name, name, root, via, table, is_class=False)


def _choose(found: Declared, tree: SourceTree, names: Names) -> None:
    """Choose the roots of the application, and the fewest names that give all of their tables."""
    by_root: dict[str, list[Model]] = {}
    for model in found.models:
        by_root.setdefault(model.root, []).append(model)
    if not by_root:
        found.targets = list(found.metadata)
        return
    # The metadata that Alembic's env.py names makes the schema. Without it all roots count, except one whose tables a
    # larger root has as well: that is a copy, made for migrations.
    migrated = {root for root in _roots_of_alembic(tree, names) if root in by_root}
    chosen: list[str] = []
    tables: set[str] = set()
    for root in sorted(by_root, key=lambda root: -len(by_root[root])):
        own = {model.table for model in by_root[root] if model.table}
        if root in migrated if migrated else not own & tables:
            chosen.append(root)
            tables |= own
    found.others = [root for root in by_root if root not in chosen]
    found.models = [model for model in found.models if model.root in chosen]
    found.tables = frozenset(tables)
    for root in sorted(chosen, key=list(by_root).index):
        found.targets += _cover(by_root[root], names, is_extension=root in found.extensions)


def _roots_of_alembic(tree: SourceTree, names: Names) -> set[str]:
    """The roots that env.py of the largest directory names as its metadata."""
    largest = max(tree.alembic, key=lambda one: one.revisions, default=None)
    found: set[str] = set()
    for module in tree.of_kind("alembic"):
        if largest is None or module.path.parent != largest.path:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr == "metadata":
                meaning = names.of(module, node.value)
                found.add(_SQLMODEL if last(node.value) == "SQLModel" else meaning)
        found |= {names.of(module, value) for name, value in module.values.items() if name == "target_metadata"}
    return found


def _cover(models: list[Model], names: Names, *, is_extension: bool) -> list[str]:
    """One target if a module imports all others, else as few targets as possible."""
    missing = {model.module for model in models}
    by_module = {module: [model for model in models if model.module == module] for module in missing}
    root_module, _, root_name = models[0].root.partition(":")
    candidates = {module: _target(by_module[module]) for module in missing}
    # A package or module that imports the models, such as shop/models/__init__.py, gives their names as well.
    for name in {parent for module in missing for parent in _parents(module)} | {root_module}:
        package = names.module(name)
        if package is None or name in candidates:
            continue
        end = ".metadata" if is_extension else ""
        if name == root_module:
            candidates[name] = f"{name}:{root_name}{end}"
        for local in package.imports:
            made = names.of(package, ast.Name(local))
            if made == models[0].root:
                candidates[name] = f"{name}:{local}{end}"
                break
            if any(made == f"{model.module}:{model.name}" and model.is_class for model in models):
                candidates.setdefault(name, f"{name}:{local}.metadata")
    order = [*dict.fromkeys(model.module for model in models)]
    order = [*(name for name in candidates if name not in order), *order]
    taken: list[str] = []
    while missing:
        best = min(order, key=lambda name: _worth(name, missing, names))
        taken.append(best)
        missing -= names.reached(best) | {best}
    return [candidates[name] for name in sorted(taken, key=order.index)]


def _worth(name: str, missing: set[str], names: Names) -> tuple[int, int, int]:
    """Less is better: modules that know most tables, and of these the one that imports least."""
    reached = names.reached(name) | {name}
    return (-len(missing & reached), len(reached), name.count("."))


def _target(models: list[Model]) -> str:
    """A name with the metadata in the module of these models."""
    model = next((model for model in models if model.is_class), models[0])
    return f"{model.module}:{model.via}"


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]

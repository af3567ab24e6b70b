"""Which environment variables contain the URL of an application's database, and what the code makes of their values.

The code reads a variable by its name, or as a field of pydantic's settings. The value is followed by name: into
variables that it is assigned to, into functions that return it, and into the call that makes an engine or connects.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from elefast.cli.init.names import Names
from elefast.cli.init.pydantic_settings import Field, find_fields
from elefast.cli.init.source_tree import Call, Module, SourceTree, last

__all__ = ["PARTS", "Variable", "Variables", "find_variables"]

_URL_NAME = re.compile(r"(?i)^[a-z0-9_]*(database|db|postgres|pg|sqlalchemy|sql)[a-z0-9_]*(url|uri|dsn)(_?str(ing)?)?$")
_DEFAULT = re.compile(r"^(postgres(ql)?|sqlite)(\+\w+)?://")
_CARRIER = re.compile(r"(?i)ur[li]|dsn|conn|database|db|postgres")

PARTS = {
    "host": ("HOST", "HOSTNAME", "SERVER", "ADDRESS", "ADDR"),
    "port": ("PORT",),
    "user": ("USER", "USERNAME", "LOGIN"),
    "password": ("PASSWORD", "PASSWD", "PASS", "PWD"),
    "database": ("DB", "DATABASE", "DBNAME", "DB_NAME", "DATABASE_NAME", "NAME"),
}
"""The endings of variables with the parts of a URL."""

_ASYNC = {"create_async_engine", "async_engine_from_config"}
_SYNC = {"create_engine", "engine_from_config"}
_RAW = {"asyncpg.connect", "asyncpg.create_pool", "psycopg.connect", "psycopg2.connect", "AsyncConnection.connect",
        "ConnectionPool", "AsyncConnectionPool"}  # fmt: skip


@dataclass
class Variable:
    """One variable.

    Args:
        name: Its name.
        place: ``file:line`` of the first read.
        kinds: The kinds of connections made of its value: ``sync``, ``async``, or ``raw`` without SQLAlchemy.
        adds_driver: Whether the application adds the driver to the URL, so that it expects one without.
        frozen: ``module:attribute`` that hold its value from import on, and that functions make engines from.
    """

    name: str
    place: str
    kinds: set[str] = field(default_factory=set[str])
    adds_driver: bool = False
    frozen: list[str] = field(default_factory=list[str])


@dataclass
class Variables:
    """The variables of a project.

    Args:
        urls: Variables with a URL.
        parts: Variables with parts of one: the name of the part by the variable.
        of_tests: URLs that tests read, with ``file:line``.
    """

    urls: dict[str, Variable] = field(default_factory=dict[str, Variable])
    parts: dict[str, str] = field(default_factory=dict[str, str])
    of_tests: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class _Read:
    """One place where a variable is read: the expression, or the field of a settings class."""

    name: str
    module: Module
    node: ast.AST
    default: str = ""
    field: Field | None = None


def find_variables(tree: SourceTree, names: Names) -> Variables:
    """The variables of the application; those of env.py count as well."""
    found = Variables()
    constants = _constants(tree)
    reads: list[_Read] = []
    for module in tree.of_kind("application", "alembic", "tests"):
        own = [*_reads(module, constants), *_fields(module, names)]
        if module.kind == "tests":
            for read in own:
                if _URL_NAME.match(read.name):
                    found.of_tests.setdefault(read.name, module.place(read.node))
        else:
            reads += own
    for read in reads:
        if _is_url(read):
            found.urls.setdefault(read.name, Variable(read.name, read.module.place(read.node)))
    if found.urls:
        _Flow(tree, names, found.urls, [read for read in reads if read.name in found.urls]).follow()
    else:
        found.parts = _parts({read.name for read in reads})
    return found


def _is_url(read: _Read) -> bool:
    if read.field is not None and read.field.is_dsn:
        return True
    return bool(_URL_NAME.match(read.name) or _DEFAULT.match(read.default)) and not re.search(
        r"(?i)redis|mongo|mysql|clickhouse|elastic|smtp|qdrant|neo4j", read.name
    )


def _parts(names: set[str]) -> dict[str, str]:
    """The parts of a URL that variables with one prefix have; a host and two others have to be among them."""
    groups: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        for part, ends in PARTS.items():
            for end in ends:  # DB_NAME is the NAME of DB_, and the DB_NAME of the empty prefix
                prefix = name.upper().removesuffix(end)
                if prefix != name.upper() and (not prefix or prefix.endswith("_") or prefix == "PG"):
                    groups.setdefault(prefix, {}).setdefault(part, name)
    chosen = [
        (prefix, parts)
        for prefix, parts in groups.items()
        if "host" in parts
        and len(parts) >= 3
        and re.search(r"(?i)postgres|psql|pg|sql|database|(^|_)db|rds", prefix)
        and not re.search(r"(?i)mysql|mongo|redis|clickhouse|mssql", prefix)
    ]
    # The application's own; a replica or a second database has fewer parts, or a longer name.
    chosen.sort(key=lambda one: (-len(one[1]), len(one[0]), one[0]))
    return {name: part for part, name in chosen[0][1].items()} if chosen else {}


def _constants(tree: SourceTree) -> dict[str, str]:
    """Module-level names of strings, such as ``ENV_URL = "APP_DATABASE_URL"``, by their last name."""
    return {
        name: value.value
        for module in tree.modules
        for name, value in module.values.items()
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def _reads(module: Module, constants: dict[str, str]) -> Iterator[_Read]:
    for node in module.reads:
        if last(node.value) == "environ":
            for name in _texts(module, node.slice, constants):
                yield _Read(name, module, node)
    for call in module.calls:
        if not call.node.args:
            continue
        function = call.node.func
        of_environ = isinstance(function, ast.Attribute) and last(function.value) == "environ"
        if (of_environ and last(function) in ("get", "pop")) or last(function) in ("getenv", "env", "config", "_env"):
            default = next(
                (
                    word.value.value
                    for word in [ast.keyword("", one) for one in call.node.args[1:]] + call.node.keywords
                    if isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)
                ),
                "",
            )
            for name in _texts(module, call.node.args[0], constants):
                yield _Read(name, module, call.node, default)


def _texts(module: Module, node: ast.expr, constants: dict[str, str]) -> list[str]:
    """The strings that an expression stands for: one, or all that a loop over strings makes of an f-string."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return _expanded(module, node)
    name = last(node)
    return [constants[name]] if name in constants else []


def _expanded(module: Module, node: ast.JoinedStr) -> list[str]:
    names = {
        part.value.id
        for part in node.values
        if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name)
    }
    if len(names) != 1:
        return []
    name = names.pop()
    values = [
        value.value
        for loop in ast.walk(module.tree)
        if isinstance(loop, ast.comprehension | ast.For)
        and isinstance(loop.target, ast.Name)
        and loop.target.id == name
        if isinstance(loop.iter, ast.Tuple | ast.List)
        for value in loop.iter.elts
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]
    return [
        "".join(str(part.value) if isinstance(part, ast.Constant) else value for part in node.values)
        for value in values
    ]


def _fields(module: Module, names: Names) -> Iterator[_Read]:
    for one in find_fields(module, names):
        yield _Read(one.variable, module, one.node, one.default, one)


class _Flow:
    """Follows the values of the variables into the calls that make engines of them."""

    def __init__(self, tree: SourceTree, names: Names, urls: dict[str, Variable], reads: list[_Read]) -> None:
        self._modules = tree.of_kind("application", "alembic")
        self._names = names
        self._urls = urls
        self._reads = {id(read.node): read.name for read in reads if read.field is None}
        # Names that hold the value of an environment variable: of fields, variables, and functions that return it.
        self._carriers: dict[str, set[str]] = {}
        for read in reads:
            if read.field is not None:
                self._carriers.setdefault(read.field.name, set()).add(read.name)
        self._fields = {read.field.name for read in reads if read.field is not None}

    def follow(self) -> None:
        for _ in range(3):
            before = sum(map(len, self._carriers.values()))
            for module in self._modules:
                self._spread(module)
            if before == sum(map(len, self._carriers.values())):
                break
        for kinds in ("application", "alembic"):
            for module in self._modules:
                if module.kind == kinds:
                    self._find_engines(module)

    def _spread(self, module: Module) -> None:
        for targets, value, function in module.assignments:
            held = self._held(value, module, None)
            if not held:
                continue
            for target in targets:
                name = last(target)
                if (function is None or isinstance(target, ast.Attribute)) and _CARRIER.search(name):
                    self._carriers.setdefault(name, set()).update(held)
        for function in module.functions:
            if not _CARRIER.search(function.name):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    held = self._held(node.value, module, function)
                    if held:
                        self._carriers.setdefault(function.name, set()).update(held)

    def _held(self, node: ast.expr, module: Module, function: ast.AST | None, depth: int = 0) -> set[str]:
        """The variables whose values are in an expression; local names are looked up in their function."""
        found: set[str] = set()
        for part in ast.walk(node):
            if id(part) in self._reads:
                found.add(self._reads[id(part)])
            name = last(part) if isinstance(part, ast.Name | ast.Attribute) else ""
            if not name:
                continue
            if isinstance(part, ast.Name) and function is not None and depth < 4:
                found |= self._local(name, module, function, depth)
            found |= self._carriers.get(name, set())
        for name in found:
            if _adds_driver(node):
                self._urls[name].adds_driver = True
        return found

    def _local(self, name: str, module: Module, function: ast.AST, depth: int) -> set[str]:
        found: set[str] = set()
        for targets, value, inside in module.assignments:
            if inside is function and any(isinstance(target, ast.Name) and target.id == name for target in targets):
                found |= self._held(value, module, function, depth + 1)
        return found

    def _find_engines(self, module: Module) -> None:
        wrapped = {
            id(part) for call in module.calls if last(call.node.func) == "AsyncEngine" for part in ast.walk(call.node)
        }
        for call in module.calls:
            kind = _kind(module, call.node, self._names)
            if not kind:
                continue
            if kind == "sync" and id(call.node) in wrapped:
                kind = "async"
            words = [word.value for word in call.node.keywords if word.arg in ("url", "dsn", "conninfo", None)]
            held: set[str] = set()
            for argument in [*call.node.args[:1], *words]:
                held |= self._held(argument, module, call.function)
            if module.kind == "alembic" and not held and "from_config" in last(call.node.func):
                held = {name for name in self._urls if self._mentions(module, name)}
            for name in held:
                variable = self._urls[name]
                if module.kind == "application" or not variable.kinds:
                    variable.kinds.add(kind)
                if module.kind == "application" and call.function is not None:
                    variable.frozen += [one for one in self._frozen(module, call, name) if one not in variable.frozen]

    def _mentions(self, module: Module, variable: str) -> bool:
        """Whether the module reads the variable, or has a name that holds it."""
        if any(
            self._reads.get(id(node)) == variable for node in [*module.reads, *(call.node for call in module.calls)]
        ):
            return True
        return any(
            variable in self._carriers.get(last(node), set())
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Name | ast.Attribute)
        )

    def _frozen(self, module: Module, call: Call, variable: str) -> Iterator[str]:
        """Values read at import: a constant, or a field of a settings object that is made at module level."""
        parts = [
            part
            for argument in [*call.node.args[:1], *(word.value for word in call.node.keywords)]
            for part in ast.walk(argument)
        ]
        local = {
            target.id: value
            for targets, value, inside in module.assignments
            if inside is call.function
            for target in targets
            if isinstance(target, ast.Name)
        }
        parts += [part for name in [last(one) for one in parts] if name in local for part in ast.walk(local[name])]
        for part in parts:
            if isinstance(part, ast.Attribute) and variable in self._carriers.get(part.attr, set()):
                owner = self._names.of(module, part.value)
                holder = self._names.module(owner.partition(":")[0]) if owner else None
                attribute = owner.partition(":")[2]
                if holder is None or owner.count(".") > owner.partition(":")[0].count("."):
                    continue
                if not attribute:
                    if part.attr in holder.values:
                        yield f"{holder.name}:{part.attr}"
                elif isinstance(holder.values.get(attribute), ast.Call):
                    # A property is made of fields: of this variable's, since the property holds its value.
                    name = part.attr if part.attr in self._fields else self._field_of(variable)
                    if name:
                        yield f"{owner}.{name}"
            elif (
                isinstance(part, ast.Name)
                and variable in self._carriers.get(part.id, set())
                and part.id not in local
                and (part.id in module.values or self._is_value(self._names.of(module, part)))
            ):
                yield f"{module.name}:{part.id}"

    def _field_of(self, variable: str) -> str:
        return next((name for name in self._fields if variable in self._carriers[name]), "")

    def _is_value(self, meaning: str) -> bool:
        holder = self._names.module(meaning.partition(":")[0])
        return holder is not None and meaning.partition(":")[2] in holder.values


def _adds_driver(node: ast.AST) -> bool:
    """Whether the driver is put into the URL: `url.replace("postgresql://", "postgresql+asyncpg://")`."""
    return any(
        isinstance(part, ast.Call)
        and last(part.func) in ("replace", "sub")
        and len(part.args) >= 2
        and all(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in part.args[:2])
        and "postgres" in part.args[0].value  # type: ignore[attr-defined]
        and "+" in part.args[1].value  # type: ignore[attr-defined]
        and "+" not in part.args[0].value  # type: ignore[attr-defined]
        for part in ast.walk(node)
    )


def _kind(module: Module, node: ast.Call, names: Names) -> str:
    name = last(node.func)
    if name in (*_ASYNC, *_SYNC) and names.module(names.of(module, node.func).partition(":")[0]) is not None:
        return ""  # a function of the project that has the name of SQLAlchemy's
    if name in _ASYNC:
        return "async"
    if name in _SYNC:
        return "sync"
    owner = last(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    return "raw" if name in _RAW or f"{owner}.{name}" in _RAW else ""

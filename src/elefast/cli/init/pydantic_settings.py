"""Fields of pydantic's settings in the project's code, each with its environment variable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from elefast.cli.init.names import Names
from elefast.cli.init.source_tree import Module, last

__all__ = ["Field", "find_fields"]


@dataclass(frozen=True)
class Field:
    """A field.

    Args:
        variable: The environment variable.
        name: Its name in the class.
        is_dsn: Whether its type says that it is PostgreSQL's URL.
        default: Its default, if that is a string.
        node: Its definition.
    """

    variable: str
    name: str
    is_dsn: bool
    default: str
    node: ast.AST


def find_fields(module: Module, names: Names) -> Iterator[Field]:
    """The fields of the settings classes of one module."""
    for node in module.classes.values():
        if _is_settings(module, node, names, 0):
            yield from _fields(module, node, names, _options(module, node, names), "")


def _is_settings(module: Module, node: ast.ClassDef, names: Names, depth: int) -> bool:
    if depth > 10:
        return False
    for base in node.bases:
        if last(base) == "BaseSettings":
            return True
        found = _class(module, base, names)
        if found and _is_settings(*found, names, depth + 1):
            return True
    return False


def _class(module: Module, node: ast.AST, names: Names) -> tuple[Module, ast.ClassDef] | None:
    meaning = names.of(module, node)
    holder = names.module(meaning.partition(":")[0])
    inner = holder.classes.get(meaning.partition(":")[2]) if holder else None
    return (holder, inner) if holder and inner else None


def _options(module: Module, node: ast.ClassDef, names: Names) -> dict[str, object]:
    """The options that name variables: those of the base class, then those of the class itself."""
    found: dict[str, object] = {}
    for base in node.bases:
        inner = _class(module, base, names)
        if inner and inner[1] is not node:
            found |= _options(*inner, names)
    for statement in node.body:
        words: list[tuple[str, ast.expr]] = []
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Call):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(last(target) == "model_config" for target in targets):
                words = [(word.arg or "", word.value) for word in statement.value.keywords]
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            if any(last(target) == "model_config" for target in statement.targets):
                words = [
                    (str(key.value), value)
                    for key, value in zip(statement.value.keys, statement.value.values, strict=True)
                    if isinstance(key, ast.Constant)
                ]
        elif isinstance(statement, ast.ClassDef) and statement.name == "Config":
            words = [
                (last(target), inner.value)
                for inner in statement.body
                if isinstance(inner, ast.Assign)
                for target in inner.targets
            ]
        found |= {
            name: value.value
            for name, value in words
            if name in ("env_prefix", "env_nested_delimiter", "case_sensitive") and isinstance(value, ast.Constant)
        }
    return found


def _fields(
    module: Module, node: ast.ClassDef, names: Names, options: dict[str, object], outer: str, depth: int = 0
) -> Iterator[Field]:
    """The fields of a class and of its bases. The variable of a nested model's field starts with the outer name."""
    if depth > 5:
        return
    for base in node.bases:
        inner = _class(module, base, names)
        if inner and inner[1] is not node:
            yield from _fields(*inner, names, options, outer, depth + 1)
    prefix = str(options.get("env_prefix") or "")
    delimiter = str(options.get("env_nested_delimiter") or "")
    for statement in node.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name = statement.target.id
        if name.startswith("_") or "ClassVar" in {last(part) for part in ast.walk(statement.annotation)}:
            continue
        alias = _alias(statement.value)
        written = alias or f"{prefix if not outer else ''}{name}"
        variable = f"{outer}{written}" if outer else written
        if options.get("case_sensitive") is not True and not alias:
            variable = variable.upper()
        nested = _class(module, statement.annotation, names)
        if nested is None:
            nested = next(
                (one for part in ast.walk(statement.annotation) if (one := _class(module, part, names))), None
            )
        if nested is not None and delimiter and not _is_settings(*nested, names, 0):
            yield from _fields(*nested, names, options, f"{variable}{delimiter}", depth + 1)
            continue
        types = {last(part) for part in ast.walk(statement.annotation)}
        yield Field(variable, name, "PostgresDsn" in types, _default(statement.value), statement)


def _alias(value: ast.expr | None) -> str:
    """The variable that `Field(alias=...)` names, or the first of several."""
    if not isinstance(value, ast.Call) or last(value.func) != "Field":
        return ""
    words = {word.arg: word.value for word in value.keywords}
    for name in ("validation_alias", "alias", "env"):
        one = words.get(name)
        if isinstance(one, ast.Call) and last(one.func) == "AliasChoices" and one.args:
            one = one.args[0]
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            return one.value
    return ""


def _default(value: ast.expr | None) -> str:
    if isinstance(value, ast.Call) and last(value.func) == "Field":
        words = {word.arg: word.value for word in value.keywords}
        value = words.get("default") or next(iter(value.args), None)
    if isinstance(value, ast.Call) and value.args:  # PostgresDsn("postgresql://...")
        value = value.args[0]
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""

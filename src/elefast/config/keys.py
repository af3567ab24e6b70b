"""The model as a flat list of keys, with their names, types, defaults and meanings.

This module must not know values, or where they come from.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from elefast.config.model import Settings
from elefast.config.value_types import Choices, FilePath, Pattern, Since

__all__ = [
    "Key",
    "KeyPath",
    "TableOfKeys",
    "all_keys",
    "all_tables",
    "closest",
    "dotted",
    "key_at",
    "named_tables",
    "variable",
]

KeyPath = tuple[str, ...]
"""The parts of a key's name: `("docker", "port")`."""

ANY_NAME = "*"
"""Stands for the name that the project gives to a table: `("roles", "*", "grants")`."""

_FIRST = "0.2.0"
"""The first version that had a configuration, and so most keys."""

_LONGEST = 100
"""A longer name is no typo of any key."""

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list of strings",
    dict: "a table",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration.

    Args:
        path: Its name in parts.
        types: The plain types that it accepts: bool, int, str, list (of strings), dict.
        choices: The strings that it accepts, with their meaning, where it does not accept any string.
        default: Its default.
        model: The class that has it.
        examples: Values to show.
        minimum: The smallest number allowed.
        maximum: The largest number allowed.
        value_types: The plain types of an open table's values; none where they can be anything.
        pattern: A regular expression for the string, or for the strings of the list.
        file: Set where the value is a path.
        since: The version of elefast that it came with.
    """

    path: KeyPath
    types: tuple[type, ...]
    choices: dict[str, str]
    default: Any
    model: type[BaseModel]
    examples: tuple[Any, ...]
    minimum: int | None
    maximum: int | None
    value_types: tuple[type, ...]
    pattern: str
    file: FilePath | None
    since: str

    @property
    def name(self) -> str:
        """The dotted name, `docker.port`."""
        return dotted(self.path)

    @property
    def description(self) -> str:
        """What it means, one or more sentences; reads the source of the model."""
        from elefast.config.field_docs import attribute_docstring

        return _flowing(attribute_docstring(self.model, self.path[-1]))

    @property
    def is_open(self) -> bool:
        """Whether the key is a table whose keys are the user's own."""
        return self.types == (dict,)

    @property
    def expected(self) -> str:
        """What an error says was expected: `true, false or "auto"`, `an integer`."""
        return _either([_WORDS[accepted] for accepted in self.types] + [f'"{it}"' for it in self.choices if it])

    @property
    def expected_inside(self) -> str:
        """The same for an item of a list, or for a value of an open table."""
        return _either([_WORDS[accepted] for accepted in self.value_types or (str,)])


@dataclass(frozen=True, slots=True)
class TableOfKeys:
    """One table of the configuration: its name (empty at the top), what it is for, and its keys."""

    name: str
    description: str
    keys: tuple[Key, ...]


@cache
def all_tables() -> tuple[TableOfKeys, ...]:
    """All tables, the top one first, in the order of the model."""
    top: list[Key] = []
    below: list[TableOfKeys] = []
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if _named_model(model) is not None:
            continue
        if _is_model(model):
            inner = tuple(_key((name, key), info, model) for key, info in model.model_fields.items())
            below.append(TableOfKeys(name, _flowing(model.__doc__), inner))
        else:
            top.append(_key((name,), field, Settings))
    return (TableOfKeys("", _flowing(Settings.__doc__), tuple(top)), *below)


@cache
def named_tables() -> tuple[TableOfKeys, ...]:
    """The tables whose subtables have names of the project's choice, such as `roles`; their keys are those of each."""
    found: list[TableOfKeys] = []
    for name, field in Settings.model_fields.items():
        if (model := _named_model(field.annotation)) is not None:
            inner = tuple(_key((name, ANY_NAME, key), info, model) for key, info in model.model_fields.items())
            found.append(TableOfKeys(name, _flowing(model.__doc__), inner))
    return tuple(found)


@cache
def all_keys() -> tuple[Key, ...]:
    """All keys, those of the top table first, without those of `named_tables`."""
    return tuple(key for table in all_tables() for key in table.keys)


@cache
def _by_path() -> dict[KeyPath, Key]:
    named = [key for table in named_tables() for key in table.keys]
    return {key.path: key for key in (*all_keys(), *named)}


def _named_model(annotation: Any) -> type[BaseModel] | None:
    """The model of `dict[str, Model]`; None for any other annotation."""
    model = get_args(annotation)[1] if get_origin(annotation) is dict else None
    return model if _is_model(model) else None


def _is_model(value: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(value, type) and issubclass(value, BaseModel)


def key_at(path: Iterable[Any]) -> Key | None:
    """The key at the beginning of this path, which may go on into a list or an open table."""
    path = tuple(path)
    known = _by_path()
    return known.get(path[:1]) or known.get(path[:2]) or known.get((*path[:1], ANY_NAME, *path[2:3]))


def dotted(path: Iterable[Any]) -> str:
    """`("docker", "port")` as `docker.port`."""
    return ".".join(str(part) for part in path)


def variable(path: KeyPath) -> str:
    """The environment variable of a key or a table: `ELEFAST_DOCKER__PORT`."""
    return "ELEFAST_" + "__".join(path).upper()


def closest(name: str, known: Iterable[str], *, exact: bool = False) -> str:
    """The one of `known` that was probably meant, or an empty string.

    Args:
        name: What was written.
        known: What could have been written.
        exact: Only overlook case, hyphens and doubled underscores.
    """
    folded = {_folded(candidate): candidate for candidate in known}
    if exact or _folded(name) in folded:
        return folded.get(_folded(name), "")
    if len(name) > _LONGEST:
        return ""
    matches = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=0.75)
    return folded[matches[0]] if matches else ""


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_").replace("__", "_")


def _either(words: list[str]) -> str:
    """`a, b or c`, also where one of them contains "or"."""
    *others, last = " or ".join(words).split(" or ")
    return f"{', '.join(others)} or {last}" if others else last


def _flowing(text: str | None) -> str:
    return " ".join((text or "").split())


def _key(path: KeyPath, field: FieldInfo, model: type[BaseModel]) -> Key:
    marks = [*field.metadata, *_nested_marks(field.annotation)]
    literals = [text for text in _leaves(field.annotation) if isinstance(text, str)]
    choices = [mark.meanings for mark in marks if isinstance(mark, Choices)]
    meanings = choices[0] if choices else {}
    return Key(
        path=path,
        types=tuple(dict.fromkeys(leaf for leaf in _leaves(field.annotation) if isinstance(leaf, type))),
        choices={text: meanings.get(text, "") for text in literals},
        default=field.get_default(call_default_factory=True),
        model=model,
        examples=tuple(field.examples or ()),
        minimum=next((mark.ge for mark in marks if hasattr(mark, "ge")), None),
        maximum=next((mark.le for mark in marks if hasattr(mark, "le")), None),
        value_types=_value_types(field.annotation),
        pattern=next((mark.regex for mark in marks if isinstance(mark, Pattern)), ""),
        file=next((mark for mark in marks if isinstance(mark, FilePath)), None),
        since=next((mark.version for mark in marks if isinstance(mark, Since)), _FIRST),
    )


def _leaves(annotation: Any) -> Iterator[Any]:
    """The plain types and literal strings that an annotation is made of; lists and tables are leaves."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from get_args(annotation)
    elif origin in (list, dict):
        yield origin
    elif origin in (Union, UnionType):
        for argument in get_args(annotation):
            yield from _leaves(argument)
    elif hasattr(annotation, "__metadata__"):
        yield from _leaves(annotation.__origin__)
    elif annotation is not NoneType:
        yield annotation


def _value_types(annotation: Any) -> tuple[type, ...]:
    if get_origin(annotation) is not dict:
        return ()
    return tuple(leaf for leaf in _leaves(get_args(annotation)[1]) if isinstance(leaf, type) and leaf is not Any)


def _nested_marks(annotation: Any) -> Iterator[Any]:
    """The marks of `Annotated` types inside lists and unions, which pydantic does not lift to the field."""
    for argument in get_args(annotation):
        yield from getattr(argument, "__metadata__", ())
        yield from _nested_marks(argument)

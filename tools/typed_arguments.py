"""The types of the keyword arguments of `from_config()`, made from the model, so that type checkers know each key.

It writes `elefast.config.overrides`. Nothing of elefast imports it but `tools.generate`.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from elefast.config.model import Settings
from elefast.config.tables import Table
from elefast.config.value_types import FilePath, ServerUrl

__all__ = ["typed_arguments"]

_HEAD = '''\
"""The keyword arguments of `from_config()` for type checkers: generated from the settings by `tools.generate`.

A key is an argument: a mapping for a table, or a name with two underscores such as ``docker__port=5433``.
None counts as not given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from sqlalchemy import URL

__all__ = ["Overrides"]
'''


def typed_arguments() -> str:
    """The text of the module."""
    classes: list[str] = []
    keys: list[str] = []
    nested: list[str] = []
    for name, field in Settings.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, Table):
            title = f"{name.capitalize()}Table"
            inner = {key: _type(one) for key, one in table.model_fields.items()}
            classes.append(_typed_dict(title, [f"{key}: {text}" for key, text in inner.items()]))
            keys.append(f"{name}: {title} | None")
            nested += [f"{name}__{key}: {text}" for key, text in inner.items()]
        else:
            for model in _models_inside(field.annotation):
                lines = [f"{key}: {_type(one)}" for key, one in model.model_fields.items()]
                classes.append(_typed_dict(f"{model.__name__}Table", lines))
            keys.append(f"{name}: {_type(field)}")
    return "\n\n".join([_HEAD, *classes, _typed_dict("Overrides", keys + nested)])


def _typed_dict(title: str, lines: list[str]) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"class {title}(TypedDict, total=False):\n{body}"


def _type(field: FieldInfo) -> str:
    """What an argument for `field` may be: paths, URLs and tuples are taken as well, see `argument_layer`."""
    texts = _texts(field.annotation)
    if any(isinstance(mark, FilePath) for mark in field.metadata):
        texts = ["Sequence[str | os.PathLike[str]]"] if texts == ["Sequence[str]"] else [*texts, "os.PathLike[str]"]
    if get_args(ServerUrl)[1] in field.metadata:
        texts.append("URL")
    return " | ".join([*texts, "None"])


def _texts(annotation: Any) -> list[str]:
    """The alternatives of an annotation, as source."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _texts(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [text for inner in get_args(annotation) for text in _texts(inner)]
    if origin is Literal:
        quoted = ", ".join(f'"{choice}"' for choice in get_args(annotation))
        return [f"Literal[{quoted}]"]
    if origin is list:
        return [f"Sequence[{' | '.join(_texts(get_args(annotation)[0]))}]"]
    if origin is dict:
        return [f"Mapping[str, {' | '.join(_texts(get_args(annotation)[1]))}]"]
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return [f"{annotation.__name__}Table"]
    return ["Any"] if annotation is Any else [annotation.__name__]


def _models_inside(annotation: Any) -> list[type[Table]]:
    """The tables of the model that are values of an open table."""
    return [one for one in get_args(annotation) if isinstance(one, type) and issubclass(one, Table)]

"""The types of the keyword arguments of `from_config()`, made from the model, so that type checkers know each key.

It writes `elefast.config.overrides`. Nothing of elefast imports it but `tools.generate`.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from elefast.config.keys import named_tables
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
    named = {table.name: table.keys[0].model for table in named_tables()}
    for name, field in Settings.model_fields.items():
        table = named.get(name, field.annotation)
        if isinstance(table, type) and issubclass(table, Table):
            title = f"{name.capitalize()}Table"
            inner = {key: _type(one) for key, one in table.model_fields.items()}
            classes.append(_typed_dict(title, [f"{key}: {text}" for key, text in inner.items()]))
            if name in named:
                keys.append(f"{name}: Mapping[str, {title}] | None")
                continue
            keys.append(f"{name}: {title} | None")
            nested += [f"{name}__{key}: {text}" for key, text in inner.items()]
        else:
            keys.append(f"{name}: {_type(field)}")
    return "\n\n".join([_HEAD, *classes, _typed_dict("Overrides", keys + nested)])


def _typed_dict(title: str, lines: list[str]) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"class {title}(TypedDict, total=False):\n{body}"


def _type(field: FieldInfo) -> str:
    """What an argument for `field` may be: paths, URLs and tuples are taken as well, see `argument_layer`."""
    texts = _texts(field.annotation)
    if any(isinstance(mark, FilePath) for mark in field.metadata):
        if "Sequence[str]" in texts:
            texts = ["Sequence[str | os.PathLike[str]]" if text == "Sequence[str]" else text for text in texts]
        else:
            texts.append("os.PathLike[str]")
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
    return ["Any"] if annotation is Any else [annotation.__name__]

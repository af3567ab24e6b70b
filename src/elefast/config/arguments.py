"""The keyword arguments of `from_config()` as a layer: `docker={"port": 5433}` or `docker__port=5433`.

This module must not know where else values come from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from elefast.config.keys import KeyPath, key_at
from elefast.config.layers import Layer, places_from
from elefast.config.limits import broken_limit
from elefast.config.messages import wrong_value
from elefast.config.provenance import Origin
from elefast.runtime.type_guards import is_list, is_mapping, is_tuple

__all__ = ["argument_layer"]


def argument_layer(arguments: Mapping[str, Any], directory: Path) -> Layer:
    """Make a layer of the arguments.

    Args:
        arguments: Keys of the model: nested mappings, or names with two underscores as in the environment. Such a
            name wins over a mapping. `None` counts as not given.
        directory: The directory that relative paths start from.
    """
    origins: dict[KeyPath, Origin] = {}
    layer = Layer(places_from(origins), directory)
    for name in sorted(arguments, key=lambda name: "__" in name):
        path = tuple(name.split("__"))
        origins[path] = Origin("argument", name)
        # Before anything walks through the value: it may contain itself.
        if expected := broken_limit(arguments[name]):
            layer.wrong(path, wrong_value(expected, path[-1], arguments[name]))
            continue
        data: Any = _plain(arguments[name])
        for part in reversed(path):
            data = {part: data}
        if arguments[name] is not None:
            layer.add(data)
    layer.values = {path: value for path, value in layer.values.items() if value is not None or _is_open(path)}
    return layer


def _is_open(path: KeyPath) -> bool:
    key = key_at(path)
    return key is not None and key.is_open


def _plain(value: Any) -> Any:
    """The value as a file would have it: paths and SQLAlchemy's URLs as strings, tuples as lists."""
    if hasattr(value, "render_as_string"):  # a URL, which is a tuple as well
        return value.render_as_string(hide_password=False)
    if is_mapping(value):
        return {name: _plain(inner) for name, inner in value.items()}
    if is_list(value) or is_tuple(value):
        return [_plain(item) for item in value]
    return os.fspath(cast("os.PathLike[str]", value)) if isinstance(value, os.PathLike) else value

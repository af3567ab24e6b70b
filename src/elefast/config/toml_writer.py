"""Values and names as TOML writes them."""

from __future__ import annotations

from typing import Any

import tomli_w

from elefast.runtime.text import escape_controls
from elefast.runtime.type_guards import is_list, is_mapping, is_tuple

__all__ = ["toml_key", "toml_value"]


def toml_value(value: Any) -> str:
    """Write the value as TOML, on one line.

    tomli-w writes an array on several lines and a mapping as a table with a header, so this function joins the two
    itself, and leaves names and all other values to tomli-w. A value that TOML has no type for becomes a string with
    the name of the type.
    """
    if is_list(value) or is_tuple(value):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if is_mapping(value):
        items = ", ".join(f"{toml_key(str(name))} = {toml_value(inner)}" for name, inner in value.items())
        return f"{{ {items} }}" if items else "{}"
    try:
        line = tomli_w.dumps({"x": value})
    except TypeError:
        return toml_value(f"<{type(value).__name__}>")
    return escape_controls(line.removeprefix("x = ").removesuffix("\n"))


def toml_key(name: str) -> str:
    """Write the name as one part of a key, in quotes where it needs them."""
    return escape_controls(tomli_w.dumps({name: 0}).removesuffix(" = 0\n"))

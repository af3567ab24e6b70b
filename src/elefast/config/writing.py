"""Values and names as TOML writes them."""

from __future__ import annotations

import json
import re
from typing import Any

from elefast.config.shapes import is_list, is_mapping
from elefast.printable import printable

__all__ = ["toml_key", "toml_value"]


def toml_value(value: Any) -> str:
    """The value as TOML, on one line; what TOML cannot say is shown as a string that names its type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes everything that TOML wants escaped, but the delete character.
        return printable(json.dumps(value, ensure_ascii=False))
    if isinstance(value, int | float):
        return repr(value)
    if is_list(value):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if is_mapping(value):
        items = ", ".join(f"{toml_key(str(name))} = {toml_value(inner)}" for name, inner in value.items())
        return f"{{ {items} }}" if items else "{}"
    return toml_value(f"<{type(value).__name__}>")


def toml_key(name: str) -> str:
    """The name as one part of a key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)

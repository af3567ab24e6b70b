"""Passwords, hidden wherever a value is shown to a person.

Plain values stay plain in the settings; `repr`, errors and the command line pass through here.
"""

from __future__ import annotations

import re
from typing import Any

from elefast.config.shapes import is_list, is_mapping

__all__ = ["HIDDEN", "hide"]

HIDDEN = "***"

# Greedy up to the last "@": a password that should have been percent-encoded must not show its tail.
_IN_URL = re.compile(r"(//[^:@/?#\s]*):.*@", re.DOTALL)
_BEFORE_AT = re.compile(r"^([^:@\s]*):(?!//).*@", re.DOTALL)
_FORGOTTEN_HOST = re.compile(r"(//[^:@/?#\s\[]*):(?!\d+(?:[/?#,]|$))[^/?#]+")
_WRITTEN_OUT = re.compile(  # as libpq's keyword, in a URL's query, as an option, in JSON
    r"""((?:pass|password|passwd|pwd)(?:\s*=|["']\s*:)\s*)('(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?|[^\s&]*)""",
    re.IGNORECASE,
)
_NAMES = re.compile(r"pass(word|wd|phrase)?$|pwd$|secret|token", re.IGNORECASE)


def hide(key: str, value: Any) -> Any:
    """`value` with its passwords replaced by `***`.

    Args:
        key: The key that it belongs to; only its last part matters.
        value: Any value, nested ones too. What is not a string, list or mapping comes back as it is.
    """
    if is_mapping(value):
        return {name: hide(str(name), inner) for name, inner in value.items()}
    if is_list(value):
        return [hide(key, inner) for inner in value]
    if value and not isinstance(value, bool) and _NAMES.search(key):
        return HIDDEN
    if isinstance(value, str):
        value = _WRITTEN_OUT.sub(rf"\1{HIDDEN}", value)
        if "@" not in value:
            return _FORGOTTEN_HOST.sub(rf"\1:{HIDDEN}", value)
        if ":" in value:
            value = _IN_URL.sub(rf"\1:{HIDDEN}@", value)
            if key.endswith("url"):
                value = _BEFORE_AT.sub(rf"\1:{HIDDEN}@", value)
    return value

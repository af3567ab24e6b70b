"""Passwords, hidden wherever a value is shown to a person.

Plain values stay plain in the settings; `repr`, errors and the command line pass through here.
"""

from __future__ import annotations

import re
from typing import Any

from elefast.runtime.type_guards import is_list, is_mapping

__all__ = ["HIDDEN", "hide"]

HIDDEN = "***"

# Up to the last "@": a password that should have been percent-encoded must not show its tail.
_IN_URL = re.compile(r"(?://|(?<=:)/)[^:@/?#\s]*:")  # of two slashes one is lost where a path was expected
_BEFORE_AT = re.compile(r"^[^:@\s]*:(?!//)")
_FORGOTTEN_HOST = re.compile(r"((?://|(?<=:)/)[^:@/?#\s\[]*):(?!\d+(?:[/?#,]|$))[^/?#]+")
_WRITTEN_OUT = re.compile(  # as libpq's keyword, in a URL's query, as an option, in JSON
    r"""((?:pass|password|passwd|pwd|secret|token)(?:\s*=|["']\s*:)\s*)('(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?|[^\s&]*)""",
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
        value = _up_to_last_at(_IN_URL, value)
        if key.endswith("url"):
            value = _up_to_last_at(_BEFORE_AT, value)
    return value


def _up_to_last_at(before: re.Pattern[str], text: str) -> str:
    """`text` without what is between `before` and its last "@"."""
    at = text.rindex("@")
    match = before.search(text, 0, at)
    return f"{text[: match.end()]}{HIDDEN}{text[at:]}" if match else text

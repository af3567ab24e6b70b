"""What no key can use, whatever it is for: text that only Python takes, and numbers and depths beyond those of TOML.

It must not know keys.
"""

from __future__ import annotations

import os

from elefast.runtime.type_guards import is_list, is_mapping, is_tuple

__all__ = ["DEEPEST", "fits", "unusable"]

DEEPEST = 50
"""So deep may a value be nested; Python's own limit depends on who calls."""

_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_INTEGERS = range(-(2**63), 2**63)


def unusable(value: object, depth: int = 0) -> str:
    """What was expected instead of `value` or of something in it; empty where it can be used."""
    if isinstance(value, str):
        return _unusable_text(value)
    if isinstance(value, int):
        return "" if value in _INTEGERS else "an integer of 64 bits"
    if not is_mapping(value) and not is_list(value) and not is_tuple(value):
        return ""
    if depth >= DEEPEST:
        return f"at most {DEEPEST} levels of lists and tables"
    inside = [*value, *value.values()] if is_mapping(value) else value
    return next(filter(None, (unusable(inner, depth + 1) for inner in inside)), "")


def fits(value: object) -> bool:
    """Whether a path, or each of a list of them, is one that an operating system would look at."""
    if is_list(value):
        return all(fits(inner) for inner in value)
    if not isinstance(value, str):
        return True
    path = os.fsencode(value)
    return len(path) < _LONGEST_PATH and all(len(name) <= _LONGEST_NAME for name in path.split(os.fsencode(os.sep)))


def _unusable_text(text: str) -> str:
    # Neither files nor variables, commands and servers take it.
    if "\0" in text:
        return "text without the character NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text that is UTF-8"
    return ""

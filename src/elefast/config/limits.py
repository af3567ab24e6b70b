"""Limits that hold for every key: what TOML, operating systems and PostgreSQL cannot take, whatever a key is for.

Python has strings with NUL, integers of any size and objects that contain themselves. Without these limits, such a
value would pass validation, and fail later where the error can name neither key nor file.
This module must not know keys.
"""

from __future__ import annotations

import os

from elefast.runtime.type_guards import is_list, is_mapping, is_tuple

__all__ = ["MAX_DEPTH", "broken_limit", "broken_path_limit"]

MAX_DEPTH = 50
"""Levels of lists and tables in a value. Python's own limit depends on how deep the caller is."""

_MAX_PATH = 4096
_MAX_NAME = 255
_INTEGERS = range(-(2**63), 2**63)


def broken_limit(value: object, depth: int = 0) -> str:
    """The limit that `value`, or something in it, does not keep; empty where it keeps all.

    Args:
        value: The value.
        depth: How many levels are around it.

    Returns:
        Text that follows after "expected", such as `an integer of 64 bits`.
    """
    if isinstance(value, str):
        return _broken_text_limit(value)
    if isinstance(value, int):
        return "" if value in _INTEGERS else "an integer of 64 bits"
    if not is_mapping(value) and not is_list(value) and not is_tuple(value):
        return ""
    if depth >= MAX_DEPTH:
        return f"at most {MAX_DEPTH} levels of lists and tables"
    inside = [*value, *value.values()] if is_mapping(value) else value
    return next(filter(None, (broken_limit(inner, depth + 1) for inner in inside)), "")


def broken_path_limit(value: object) -> str:
    """The same for a path, or for a list of paths: no operating system looks at a longer one."""
    paths = value if is_list(value) else [value]
    return "a path that is not longer than any can be" if any(map(_is_too_long, paths)) else ""


def _is_too_long(value: object) -> bool:
    if not isinstance(value, str):
        return False
    path = os.fsencode(value)
    return len(path) >= _MAX_PATH or any(len(name) > _MAX_NAME for name in path.split(os.fsencode(os.sep)))


def _broken_text_limit(text: str) -> str:
    # Files, variables, commands and servers all refuse it.
    if "\0" in text:
        return "text without the character NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "text that is UTF-8"
    return ""

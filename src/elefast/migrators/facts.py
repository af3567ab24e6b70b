"""Facts: what seed functions return for tests to read, such as the ids of rows. They are kept as JSON.

It knows values and functions. It must not know where facts are kept.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elefast.errors import MigrationError
from elefast.runtime.text import one_line
from elefast.runtime.type_guards import is_list, is_mapping, is_tuple
from elefast.templates.manifest import relative

__all__ = ["checked_facts"]

_DEEPEST = 30


def checked_facts(returned: object, function: Any, label: str, root: Path) -> dict[str, Any]:
    """What a seed function has returned, as a JSON object; empty for None.

    Args:
        returned: The value.
        function: The function, for its place.
        label: The name of the step.
        root: The project directory.

    Raises:
        MigrationError: The value is no mapping, or something in it is no JSON; the text names the place of each.
    """
    if returned is None:
        return {}
    if is_mapping(returned) and isinstance(returned, dict):
        problems = list(_problems(returned, "facts", 0))
        if not problems:
            facts: dict[str, Any] = json.loads(json.dumps(returned))  # tuples become lists
            return facts
    else:
        problems = [f"expected a dict or None, got {_shown(returned)}"]
    place = _place(function, root)
    raise MigrationError(
        "\n  ".join(
            [
                f"{label}: what the function returns must be facts for tests, as JSON"
                + (f"; it is defined at {place}" if place else ""),
                *problems[:10],
                "Return numbers, text, True, False, None, lists and dicts of them, such as str(user.id), or nothing.",
            ]
        ),
        code="facts-not-json",
    )


def _problems(value: object, path: str, depth: int) -> Iterator[str]:
    """What in `value` is no JSON."""
    if depth > _DEEPEST:
        yield f"{path[:100]}: nested too deeply, or contains itself"
    elif is_mapping(value) and isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str) and not _wrong_text(key):
                yield from _problems(inner, f"{path}[{key!r}]", depth + 1)
            else:
                yield f"{path}: expected keys that are text, got {_shown(key)}"
    elif is_list(value) or is_tuple(value):
        for number, inner in enumerate(value):
            yield from _problems(inner, f"{path}[{number}]", depth + 1)
    elif isinstance(value, str):
        if _wrong_text(value):
            yield f"{path}: expected text that is UTF-8, got {_shown(value)}"
    elif isinstance(value, float):
        if value - value != 0:
            yield f"{path}: expected a finite number, got {value}"
    elif value is not None and not isinstance(value, bool | int):
        yield f"{path}: expected JSON, got {_shown(value)}"


def _wrong_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _shown(value: object) -> str:
    """The type of a value, without its content: its repr may fail, or load rows."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"an object of type {one_line(name)}"


def _place(function: Any, root: Path) -> str:
    """File and line of a function; empty where it has none."""
    try:
        target = inspect.unwrap(function)
        file, line = inspect.getsourcefile(target), inspect.getsourcelines(target)[1]
    except (TypeError, OSError, ValueError):
        return ""
    return f"{relative(file, str(root))}:{line}" if file else ""

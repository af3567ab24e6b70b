"""The words of errors: values as they are shown, suggestions, and what pydantic says in our own words.

It must not know where a value came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, time
from typing import Any, cast

from pydantic_core import ErrorDetails

from elefast.config.keys import Key, closest
from elefast.config.value_types import WrongValueError, instead
from elefast.runtime.redaction import hide
from elefast.runtime.text import short

__all__ = ["explain", "in_words", "shown", "suggestion"]

_MOST = 20


def shown(key: str, value: Any) -> str:
    """The value as an error shows it: as in TOML, without passwords, and not too long."""
    if isinstance(value, date | time):
        return value.isoformat()
    if not isinstance(value, str | int | float | bool | list | dict | None):
        return f"an object of type {type(cast('object', value)).__name__}"
    try:
        text = json.dumps(hide(key, value), ensure_ascii=False, default=lambda inner: type(inner).__name__)
    except (ValueError, TypeError, RecursionError):
        # An integer of thousands of digits, something that contains itself, keys that are no strings.
        return f"an object of type {type(cast('object', value)).__name__}"
    return short(text)


def suggestion(better: str) -> str:
    """`, did you mean "port"?`, or nothing."""
    return f", {instead(better)}" if better else ""


def in_words(items: Iterable[str]) -> str:
    """`"a", "b"`; the first ones, where they are many."""
    found = list(items)
    return ", ".join([*(f'"{short(item)}"' for item in found[:_MOST]), *(["..."] if len(found) > _MOST else [])])


def explain(key: Key, error: ErrorDetails) -> str:
    """What is wrong with the value of `key`, in one sentence.

    Args:
        key: The key.
        error: One of pydantic's errors for it. Its own text never is used, since it may show the value.
    """
    value: Any = error["input"]
    reason = error.get("ctx", {}).get("error")
    if isinstance(reason, WrongValueError):
        advice = f", {reason.advice}" if reason.advice else ""
        return f"expected {reason.expected}, got {shown(key.name, value)}{advice}"
    if error["type"] in ("greater_than_equal", "less_than_equal"):
        return f"expected {_range(key)}, got {shown(key.name, value)}"
    inside = error["loc"][len(key.path) :]
    if key.types == (list,) and inside:
        return f"expected {key.expected_inside} in the list, got {shown(key.name, value)}"
    if key.is_open and inside:
        return f"expected {key.expected_inside}, got {shown(str(inside[0]), value)}"
    better = closest(value, [choice for choice in key.choices if choice]) if isinstance(value, str) else ""
    return f"expected {key.expected}, got {shown(key.name, value)}{suggestion(better)}"


def _range(key: Key) -> str:
    if key.minimum is not None and key.maximum is not None:
        return f"an integer from {key.minimum} to {key.maximum}"
    return f"at least {key.minimum}" if key.minimum is not None else f"at most {key.maximum}"

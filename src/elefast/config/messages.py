"""The texts of errors: how a value is shown, suggestions, and what each of pydantic's errors means in our words.

This module must not know where a value came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, time
from typing import Any, cast

from pydantic_core import ErrorDetails

from elefast.config.keys import Key, closest
from elefast.config.value_types import WrongValueError, did_you_mean
from elefast.runtime.redaction import redact
from elefast.runtime.text import one_line

__all__ = ["describe_validation_error", "format_value", "inside_value", "quoted_list", "suggestion", "wrong_value"]

_MAX_ITEMS = 20


def format_value(key: str, value: Any) -> str:
    """The value as an error shows it: as in TOML, without passwords, and not too long.

    Args:
        key: The last part of its key, or the whole key: it tells whether the value is a password.
        value: The value.
    """
    if isinstance(value, date | time):
        return value.isoformat()
    if not isinstance(value, str | int | float | bool | list | dict | None):
        return f"an object of type {type(cast('object', value)).__name__}"
    try:
        text = json.dumps(redact(key, value), ensure_ascii=False, default=lambda inner: type(inner).__name__)
    except (ValueError, TypeError, RecursionError):
        # An integer of thousands of digits, something that contains itself, keys that are no strings.
        return f"an object of type {type(cast('object', value)).__name__}"
    return one_line(text)


def wrong_value(expected: str, key: str, value: Any, advice: str = "") -> str:
    """`expected an integer, got "abc"`, and the advice after a comma."""
    return f"expected {expected}, got {format_value(key, value)}" + (f", {advice}" if advice else "")


def suggestion(better: str) -> str:
    """`, did you mean "port"?`, or nothing."""
    return f", {did_you_mean(better)}" if better else ""


def quoted_list(items: Iterable[str]) -> str:
    """`"a", "b"`; only the first ones of many."""
    found = list(items)
    return ", ".join(
        [*(f'"{one_line(item)}"' for item in found[:_MAX_ITEMS]), *(["..."] if len(found) > _MAX_ITEMS else [])]
    )


def describe_validation_error(key: Key, error: ErrorDetails) -> str:
    """Say what is wrong with the value of `key`, in one sentence.

    Args:
        key: The key.
        error: One of pydantic's errors for it. Its text is not used, since it may show a password.
    """
    value: Any = error["input"]
    reason = error.get("ctx", {}).get("error")
    if isinstance(reason, WrongValueError):
        return wrong_value(reason.expected, key.name, value, reason.advice)
    if error["type"] in ("greater_than_equal", "less_than_equal"):
        return wrong_value(_range(key), key.name, value)
    inside = inside_value(key, error["loc"])
    if key.types == (list,) and inside:
        return wrong_value(f"{key.expected_inside} in the list", key.name, value)
    if key.is_open and inside:
        return wrong_value(key.expected_inside, str(inside[0]), value)
    better = closest(value, [choice for choice in key.choices if choice]) if isinstance(value, str) else ""
    return wrong_value(key.expected, key.name, value, did_you_mean(better) if better else "")


def inside_value(key: Key, place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The part of `place` that is inside of the key's value: the number of an item, or names in an open table.

    Where a key takes a list or a word, pydantic also has the names of these alternatives in its places.
    """
    inside = place[len(key.path) :]
    return inside if key.is_open or not key.choices else tuple(part for part in inside if isinstance(part, int))


def _range(key: Key) -> str:
    if key.minimum is not None and key.maximum is not None:
        return f"an integer from {key.minimum} to {key.maximum}"
    return f"at least {key.minimum}" if key.minimum is not None else f"at most {key.maximum}"

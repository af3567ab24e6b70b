"""A guard on `os.environ` that asks before each write.

It knows mappings and frames. It must not know which variables are protected, or which code may change them.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["Accepts", "guard", "writer"]

Accepts = Callable[[str, str | None], bool]
"""Takes the name and the new value of a variable, None for its removal, and returns whether to write it."""

# The modules of the methods between a write and the code that called them, such as `update` and `pop`.
_MAPPING_MODULES = frozenset(["os", "collections.abc", "_collections_abc", __name__])

_WRITE_FUNCTIONS = frozenset(["set_item", "delete_item"])


def guard(accepts: Accepts) -> Callable[[], None]:
    """Let `accepts` decide about each write to `os.environ` from now on. A refused write has no effect.

    Only the class of the object changes, because modules may have imported the object by name.
    `os.putenv()` is not covered. Only child processes see what it sets.

    Args:
        accepts: Called before each write.

    Returns:
        A function that removes the guard.
    """
    before: list[tuple[Any, Any]] = []
    mappings: list[Any] = [os.environ, *([os.environb] if os.supports_bytes_environ else [])]
    for mapping in mappings:
        original: Any = mapping.__class__
        with suppress(TypeError):  # a test or plugin has bound the name to another mapping
            mapping.__class__ = _guarded(original, accepts)
            before.append((mapping, original))

    def end() -> None:
        for mapping, original in before:
            mapping.__class__ = original

    return end


def writer() -> FrameType:
    """The frame of the code that is writing to `os.environ`, below the methods of mappings."""
    frame = inspect.currentframe()
    assert frame is not None, "CPython has frames"
    while frame.f_code.co_name not in _WRITE_FUNCTIONS and frame.f_back is not None:
        frame = frame.f_back  # this function and `accepts`
    while frame.f_globals.get("__name__") in _MAPPING_MODULES and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _guarded(original: Any, accepts: Accepts) -> Any:
    """A subclass of `original` that asks before it writes."""

    def set_item(self: Any, key: Any, value: Any) -> None:
        if not isinstance(key, str | bytes) or accepts(os.fsdecode(key), os.fsdecode(value)):
            original.__setitem__(self, key, value)

    def delete_item(self: Any, key: Any) -> None:
        if not isinstance(key, str | bytes) or accepts(os.fsdecode(key), None):
            original.__delitem__(self, key)

    def pop_item(self: Any) -> tuple[Any, Any]:
        # MutableMapping.popitem() would return the same item for ever, if that item cannot be removed.
        for key in list(self):
            value = self[key]
            del self[key]
            if key not in self:
                return key, value
        raise KeyError("popitem(): no variable that is left can be removed")

    def clear(self: Any) -> None:
        for key in list(self):
            del self[key]

    # Python assigns a class only to objects of the same memory layout, so `original` is the only base.
    methods = {"__setitem__": set_item, "__delitem__": delete_item, "popitem": pop_item, "clear": clear}
    return type(original.__name__, (original,), {"__module__": original.__module__, **methods})

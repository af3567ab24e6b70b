"""`os.environ`, with some variables that not everybody may change.

It knows mappings and frames. It must not know which variables these are, or who may change them.
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
"""Says whether this variable may get this value; None stands for its removal."""

# What stands between a mapping's method and the code that called it: `update`, `setdefault`, `pop`.
_OF_MAPPINGS = frozenset(["os", "collections.abc", "_collections_abc", __name__])

_METHODS = frozenset(["set_item", "delete_item"])


def guard(accepts: Accepts) -> Callable[[], None]:
    """From here on `accepts` decides what is written to `os.environ`; a write that it refuses has no effect.

    The object stays the same, because modules may have imported it by name; only its class changes.
    `os.putenv()` does not pass here: what it sets is seen by child processes alone.

    Args:
        accepts: Is asked before each write.

    Returns:
        A function that ends it.
    """
    before: list[tuple[Any, Any]] = []
    mappings: list[Any] = [os.environ, *([os.environb] if os.supports_bytes_environ else [])]
    for mapping in mappings:
        original: Any = mapping.__class__
        with suppress(TypeError):  # something else stands there, such as a dictionary
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
    while frame.f_code.co_name not in _METHODS and frame.f_back is not None:
        frame = frame.f_back  # this function, and whoever decides
    while frame.f_globals.get("__name__") in _OF_MAPPINGS and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _guarded(original: Any, accepts: Accepts) -> Any:
    """A class like `original` that asks before it writes."""

    def set_item(self: Any, key: Any, value: Any) -> None:
        if not isinstance(key, str | bytes) or accepts(os.fsdecode(key), os.fsdecode(value)):
            original.__setitem__(self, key, value)

    def delete_item(self: Any, key: Any) -> None:
        if not isinstance(key, str | bytes) or accepts(os.fsdecode(key), None):
            original.__delitem__(self, key)

    def pop_item(self: Any) -> tuple[Any, Any]:
        # That of MutableMapping would give the same item for ever, where that one cannot be removed.
        for key in list(self):
            value = self[key]
            del self[key]
            if key not in self:
                return key, value
        raise KeyError("popitem(): every variable that is left is one that cannot be removed")

    def clear(self: Any) -> None:
        for key in list(self):
            del self[key]

    # It has no other base than `original`: the object's memory is laid out as that class has it.
    methods = {"__setitem__": set_item, "__delitem__": delete_item, "popitem": pop_item, "clear": clear}
    return type(original.__name__, (original,), {"__module__": original.__module__, **methods})

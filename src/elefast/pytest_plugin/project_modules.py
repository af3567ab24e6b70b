"""What modules of the project have names for: values that are to be replaced, and engines that were made from a URL.

It knows `sys.modules` and SQLAlchemy's engines.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine

__all__ = ["Names", "is_of_project"]

_PLACES = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_ELSEWHERE = tuple(f"{Path(place).resolve()}/" for place in {*_PLACES, *site.getsitepackages()})


def is_of_project(module: Any) -> bool:
    """Whether a module is neither of the standard library, nor installed, nor elefast's."""
    file: Any = getattr(module, "__file__", None)
    name: Any = getattr(module, "__name__", "")
    if not isinstance(file, str) or not isinstance(name, str) or name.partition(".")[0] == "elefast":
        return False
    return not str(Path(file).resolve()).startswith(_ELSEWHERE)


class Names:
    """The names in the namespaces of the project's modules and of their classes."""

    def __init__(self) -> None:
        self._known = 0
        self._owners: list[Any] = []

    def replace(self, old: Any, new: Any) -> None:
        """Let every name that has a value equal to `old`, and of its type, have `new`."""
        for owner in self._namespaces():
            for name, value in _items(owner):
                if type(value) is type(old) and value == old and not name.startswith("__"):
                    setattr(owner, name, new)

    def engines(self) -> Iterator[Any]:
        """The engines, sync and async, that have a name."""
        module = sys.modules.get("sqlalchemy.ext.asyncio")
        kinds: tuple[Any, ...] = (Engine,) if module is None else (Engine, module.AsyncEngine)
        for owner in self._namespaces():
            for _, value in _items(owner):
                if isinstance(value, kinds):
                    yield value

    def _namespaces(self) -> Iterator[Any]:
        # Paths are looked at only where a module was imported since.
        if self._known != len(sys.modules):
            self._known = len(sys.modules)
            self._owners = [module for module in list(sys.modules.values()) if is_of_project(module)]
        for module in self._owners:
            yield module
            for _, value in _items(module):
                if isinstance(value, type) and value.__module__ == module.__name__:
                    yield value


def _items(owner: Any) -> list[tuple[str, Any]]:
    space = cast("dict[str, Any]", owner.__dict__)
    return list(space.items())

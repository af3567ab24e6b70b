"""The namespaces of the project's modules: values to replace in them, and the engines that they have.

This module knows `sys.modules` and SQLAlchemy's engines. It must not know the key `patch`.
"""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine

__all__ = ["ProjectNamespaces", "is_project_module"]

_INSTALL_PATHS = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_INSTALL_PREFIXES = tuple(f"{Path(path).resolve()}/" for path in {*_INSTALL_PATHS, *site.getsitepackages()})


def is_project_module(module: Any) -> bool:
    """Whether a module is not from the standard library, an installed package or elefast."""
    file: Any = getattr(module, "__file__", None)
    name: Any = getattr(module, "__name__", "")
    if not isinstance(file, str) or not isinstance(name, str) or name.partition(".")[0] == "elefast":
        return False
    return not str(Path(file).resolve()).startswith(_INSTALL_PREFIXES)


class ProjectNamespaces:
    """The namespaces of the project's modules and of their classes."""

    def __init__(self) -> None:
        self._module_count = 0
        self._modules: list[Any] = []

    def replace(self, old: Any, new: Any) -> None:
        """Bind every name to `new` that has a value equal to `old` and of the same type."""
        for owner in self._namespaces():
            for name, value in _items(owner):
                if type(value) is type(old) and value == old and not name.startswith("__"):
                    setattr(owner, name, new)

    def engines(self) -> Iterator[Any]:
        """The sync and async engines that have a name."""
        module = sys.modules.get("sqlalchemy.ext.asyncio")
        kinds: tuple[Any, ...] = (Engine,) if module is None else (Engine, module.AsyncEngine)
        for owner in self._namespaces():
            for _, value in _items(owner):
                if isinstance(value, kinds):
                    yield value

    def _namespaces(self) -> Iterator[Any]:
        # The search resolves the path of every module, so it is repeated only after an import.
        if self._module_count != len(sys.modules):
            self._module_count = len(sys.modules)
            self._modules = [module for module in list(sys.modules.values()) if is_project_module(module)]
        for module in self._modules:
            yield module
            for _, value in _items(module):
                if isinstance(value, type) and value.__module__ == module.__name__:
                    yield value


def _items(owner: Any) -> list[tuple[str, Any]]:
    namespace = cast("dict[str, Any]", owner.__dict__)
    return list(namespace.items())

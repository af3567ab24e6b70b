"""A callback for the import of some modules, which runs before the importing code can use the module.

This module knows only Python's import system, because it works before SQLAlchemy is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["ImportWatch"]


class ImportWatch(MetaPathFinder):
    """Calls a function after each import and reload of some modules.

    Args:
        names: The modules.
        imported: Called with the name of a module when its code has run.
    """

    def __init__(self, names: Iterable[str], imported: Callable[[str], None]) -> None:
        self._names = frozenset(names)
        self._imported = imported

    def start(self) -> None:
        """Begin to watch, and report the modules that are imported already."""
        sys.meta_path.insert(0, self)
        for name in self._names & sys.modules.keys():
            self._imported(name)

    def stop(self) -> None:
        """End the watch."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the other finders, with a loader that reports the import."""
        if fullname not in self._names:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _ReportingLoader(spec.loader, self._imported)
                return spec
        return None


class _ReportingLoader(Loader):
    """Loads with another loader and reports it. The module sees only the other loader."""

    def __init__(self, loader: Loader, imported: Callable[[str], None]) -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._imported(module.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

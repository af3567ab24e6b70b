"""Modules that are watched for their import: whoever watches is told before the importer can use the module.

It knows Python's import machinery alone, because it is in place before SQLAlchemy is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["ImportWatch", "mentions_patch"]


def mentions_patch(files: Iterable[Path]) -> bool:
    """Whether `patch` seems to be configured at all; to read the settings takes some tenths of a second."""
    return bool(os.environ.get("ELEFAST_PATCH")) or any(
        file.is_file() and "patch" in file.read_text(encoding="utf-8", errors="replace") for file in files
    )


class ImportWatch(MetaPathFinder):
    """Tells of each import and reload of some modules.

    Args:
        names: The modules.
        imported: Told the name of a module once its code has run.
    """

    def __init__(self, names: Iterable[str], imported: Callable[[str], None]) -> None:
        self._names = frozenset(names)
        self._imported = imported

    def start(self) -> None:
        """Begin to watch, and tell of what is imported already."""
        sys.meta_path.insert(0, self)
        for name in self._names & sys.modules.keys():
            self._imported(name)

    def stop(self) -> None:
        """Watch no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finders find, with a loader that tells."""
        if fullname not in self._names:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _TellingLoader(spec.loader, self._imported)
                return spec
        return None


class _TellingLoader(Loader):
    """Loads with another loader; to the module it looks as if that one had been there alone."""

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

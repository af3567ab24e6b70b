"""Tells files of the interpreter and of installed packages from files of the project.

It knows paths only. It must not read files.
"""

from __future__ import annotations

import os
import site
import sysconfig

__all__ = ["Installed", "is_inside", "is_own"]

_OWN_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Installed:
    """The directories of the standard library, and of installed packages and programs of this interpreter."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        places = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts") if name in paths]
        places += site.getsitepackages() if hasattr(site, "getsitepackages") else []
        places.append(site.getusersitepackages())
        # The standard library of a virtual environment is outside of it.
        places.append(os.path.dirname(os.__file__))
        self._places = {os.path.normpath(place) for place in places}
        self._places |= {os.path.realpath(place) for place in places}

    def has(self, path: str) -> bool:
        """Whether an absolute path is in one of these directories, so that it is no file of the project."""
        parts = path.replace("\\", "/").split("/")
        if "site-packages" in parts or "dist-packages" in parts:
            return True
        return any(is_inside(path, place) for place in self._places)


def is_own(path: str) -> bool:
    """Whether a path is one of elefast's own files, even where elefast is installed in editable mode."""
    return is_inside(path, _OWN_PACKAGE)


def is_inside(path: str, place: str) -> bool:
    """Whether `path` is the directory `place` or in it; both are absolute and normalised."""
    return path == place or path.startswith(place.rstrip(os.sep) + os.sep)

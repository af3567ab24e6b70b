"""Tells files of the interpreter and of installed packages from files of the project.

It knows paths only.
"""

from __future__ import annotations

import os
import site
import sysconfig

__all__ = ["Installed", "is_inside", "is_own"]

_OWN_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Installed:
    """The standard library and the directories of installed packages and programs of this interpreter."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        places = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts") if name in paths]
        places += site.getsitepackages() if hasattr(site, "getsitepackages") else []
        places.append(site.getusersitepackages())
        # A virtual environment has its standard library elsewhere.
        places.append(os.path.dirname(os.__file__))
        self._places = {os.path.normpath(place) for place in places}
        self._places |= {os.path.realpath(place) for place in places}

    def has(self, path: str) -> bool:
        """Whether an absolute path belongs to them, so that it is not the project's."""
        parts = path.replace("\\", "/").split("/")
        if "site-packages" in parts or "dist-packages" in parts:
            return True
        return any(is_inside(path, place) for place in self._places)


def is_own(path: str) -> bool:
    """Whether a path belongs to elefast itself, however that is installed."""
    return is_inside(path, _OWN_PACKAGE)


def is_inside(path: str, place: str) -> bool:
    """Whether `path` is the directory `place` or lies in it; both absolute and normal."""
    return path == place or path.startswith(place.rstrip(os.sep) + os.sep)

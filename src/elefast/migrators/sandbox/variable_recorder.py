"""Records which environment variables code of the project reads while it builds a template.

- A variable counts where code of the project asks for it, directly or through a library that gets the name from it,
  such as ``decouple`` or ``os.path.expandvars``.
- A variable that a library reads for itself, by a name that is written in the library, does not count.
- pydantic-settings copies the whole environment. Of that, the variables count that match fields of the settings.
- Where other code reads the whole environment, all variables count that do not differ from shell to shell.

It replaces methods of the class of `os.environ`, so that references which were imported from `os` earlier are
observed, too. The methods are never restored, so it needs a process that does nothing else.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from types import CodeType, FrameType
from typing import Any

from elefast.templates.project_files import Installed, is_own
from elefast.templates.variables import Variables, is_of_the_run, is_of_the_shell

__all__ = ["VariableRecorder"]

_VIEWS = "_collections_abc"
_SETTINGS = ("pydantic_settings/", "pydantic_settings\\")
_DOTENV = ("dotenv/main.py", "dotenv\\main.py")
_STDLIB = os.path.dirname(os.__file__)
# Modules that pass the environment to programs, to find out about the machine.
_PROBES = tuple(os.path.join(_STDLIB, *name.split("/")) for name in ("platform.py", "uuid.py", "ctypes/util.py"))
# Drivers, which read the variables of libpq that elefast has set.
_DRIVERS = ("psycopg", "psycopg2", "asyncpg", "pg8000")


class VariableRecorder:
    """Records from `start` on; `variables` gives the result."""

    def __init__(self) -> None:
        self._recording = False
        self._at_start: dict[str, str] = {}
        self._given: frozenset[str] = frozenset()
        self._patterns: dict[str, None] = {}
        self._written: set[str] = set()
        self._is_whole = False
        self._wholes: set[tuple[CodeType, int]] = set()
        """The places that read the whole environment: code, and the index of the instruction in it."""
        self._settings: list[Any] = []
        """Sources of pydantic-settings; the names of their variables are known once they have been set up."""

    def start(self, given: Iterable[str]) -> None:
        """Record from now on.

        Args:
            given: Names of variables that elefast has set for the build; they do not count.
        """
        self._at_start = dict(os.environ)
        self._given = frozenset(given)
        self._recording = True
        self._watch(type(os.environ))

    def stop(self) -> None:
        """Record no more."""
        self._recording = False

    def variables(self) -> Variables:
        """Stop, and return the variables that were read, with their values at the start."""
        self.stop()
        for source in self._settings:
            try:
                self._patterns.update(dict.fromkeys(_fields(source)))
            except Exception:  # another release of pydantic-settings, or a source of the project's own
                self._is_whole = True
        patterns = [name for name in self._patterns if not self._is_left_out(name)]
        return Variables.of(patterns, self._at_start, self._given if self._is_whole else None)

    def _is_left_out(self, pattern: str) -> bool:
        name = pattern.removeprefix("~")
        names = {name} if name == pattern else {name, name.upper()}
        return bool(names & self._given) or any(is_of_the_run(each) for each in names)

    def _watch(self, environment: Any) -> None:
        recorder = self
        get, put, delete = environment.__getitem__, environment.__setitem__, environment.__delitem__
        iterate, show = environment.__iter__, environment.__repr__

        def __getitem__(self: Any, key: Any) -> Any:  # noqa: N807
            recorder._on_read(key)
            return get(self, key)

        def __setitem__(self: Any, key: Any, value: Any) -> None:  # noqa: N807
            recorder._on_write(key)
            put(self, key, value)

        def __delitem__(self: Any, key: Any) -> None:  # noqa: N807
            recorder._on_read(key)
            recorder._on_write(key)
            delete(self, key)

        def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
            recorder._on_whole()
            return iter(list(iterate(self)))

        def __repr__(self: Any) -> str:  # noqa: N807
            recorder._on_whole()
            return str(show(self))

        for method in (__getitem__, __setitem__, __delitem__, __iter__, __repr__):
            setattr(environment, method.__name__, method)

    def _on_read(self, key: Any) -> None:
        if not self._recording:
            return
        # An error of the recorder must not break the code that it observes.
        with suppress(Exception):
            name = _name(key)
            if name in self._patterns or name in self._written:
                return
            frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
            if _is_view(frame):
                return  # a loop over the items or values, which `_on_whole` has recorded
            reader = _reader(frame)
            if reader is not None and (reader.f_code, reader.f_lasti) in self._wholes:
                return
            asking = _project_frame(frame, name)
            if asking is not None and (not is_of_the_shell(name) or _is_written_in(asking, name)):
                self._patterns[name] = None

    def _on_write(self, key: Any) -> None:
        if self._recording:
            with suppress(Exception):
                self._written.add(_name(key))

    def _on_whole(self) -> None:
        if not self._recording:
            return
        with suppress(Exception):
            frame = _reader(sys._getframe(2))  # pyright: ignore[reportPrivateUsage]
            if frame is None:
                return
            self._wholes.add((frame.f_code, frame.f_lasti))
            name = frame.f_code.co_filename
            if is_own(name) or name in _PROBES or _is_of_a_driver(frame):
                return
            outer = _outside_of_the_standard_library(frame)
            if outer is None or is_own(outer.f_code.co_filename):
                return
            if any(part in outer.f_code.co_filename for part in _SETTINGS) and (source := _source(outer)) is not None:
                self._settings.append(source)
            elif outer.f_code.co_filename.endswith(_DOTENV) and "atoms" in outer.f_locals:
                # python-dotenv copies the environment for each line, to replace ${NAME} in it. The names are parsed
                # from the line here, because the library's own iterator `atoms` can be read only once.
                line = str(outer.f_locals.get("value") or "")
                self._patterns.update(dict.fromkeys(re.findall(r"\$\{([^}:]+)", line)))
            else:
                self._is_whole = True


def _fields(source: Any) -> Iterator[str]:
    """Patterns for the variables that a source of pydantic-settings reads."""
    mark = "" if source.case_sensitive else "~"
    for name, info in source.settings_cls.model_fields.items():
        for _, variable, _ in source._extract_field_info(info, name):
            yield f"{mark}{variable}"
            if source.env_nested_delimiter:
                yield f"{mark}{variable}{source.env_nested_delimiter}*"


def _source(frame: FrameType) -> Any:
    """The source of pydantic-settings that loads its variables in `frame`, or in a caller of it; None without one."""
    walked: FrameType | None = frame
    while walked is not None and any(part in walked.f_code.co_filename for part in _SETTINGS):
        candidate = walked.f_locals.get("self")
        if hasattr(candidate, "settings_cls") and hasattr(candidate, "_extract_field_info"):
            return candidate
        walked = walked.f_back
    return None


def _is_view(frame: FrameType) -> bool:
    code = frame.f_code
    return _VIEWS in code.co_filename and code.co_name == "__iter__"


def _reader(frame: FrameType | None) -> FrameType | None:
    """The first frame outside of the mapping and of its views."""
    while frame is not None and (
        _VIEWS in frame.f_code.co_filename
        or frame.f_code.co_filename in ("<frozen os>", os.__file__)
        or frame.f_code.co_filename == __file__
    ):
        frame = frame.f_back
    return frame


def _outside_of_the_standard_library(frame: FrameType | None) -> FrameType | None:
    while frame is not None and (
        frame.f_code.co_filename.startswith("<") or _is_of_the_standard_library(frame.f_code.co_filename)
    ):
        frame = frame.f_back
    return frame


def _project_frame(frame: FrameType | None, name: str) -> FrameType | None:
    """The frame of the project that asks for the variable `name`; None where a library asks for itself.

    A library asks for itself where the name is written in its own code, and for its caller otherwise.
    """
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith("<"):
            if is_own(path):
                return None
            if not _is_installed(path):
                return frame
        if _is_written_in(frame, name) and (path.startswith("<frozen ") or not path.startswith("<")):
            return None
        frame = frame.f_back
    return None


def _is_written_in(frame: FrameType, name: str) -> bool:
    """Whether `name` is a string in the code of `frame`, or the value of a variable of its module."""
    written = name in _constants(frame.f_code)
    return written or any(type(value) is str and value == name for value in list(frame.f_globals.values()))


def _name(key: Any) -> str:
    name = os.fsdecode(key)
    return name.upper() if os.name == "nt" else name


@cache
def _constants(code: CodeType) -> frozenset[str]:
    """The string constants of a function, including those in tuples and sets."""
    found: set[str] = set()
    waiting: list[Any] = list(code.co_consts)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, tuple | frozenset):
            waiting += value  # pyright: ignore[reportUnknownArgumentType]
    return frozenset(found)


def _is_of_a_driver(frame: FrameType) -> bool:
    module: Mapping[str, Any] = frame.f_globals
    return str(module.get("__name__", "")).partition(".")[0] in _DRIVERS


@cache
def _installed() -> Installed:
    return Installed()


@cache
def _is_installed(path: str) -> bool:
    return _installed().has(os.path.abspath(path))


@cache
def _is_of_the_standard_library(path: str) -> bool:
    inside = os.path.abspath(path).startswith((_STDLIB + os.sep, os.path.realpath(_STDLIB) + os.sep))
    return inside and "site-packages" not in path and "dist-packages" not in path

"""The digest of a Python function, for listeners of DDL events: equal as long as the function does the same.

It covers byte code and the values that the code refers to. Where it cannot cover a value, it raises an error instead
of ignoring it. Then a template is built in every run, because a change of the function would not be noticed.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import inspect
import logging
import os
import re
import uuid
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from sqlalchemy import ClauseElement, Table
from sqlalchemy.dialects import postgresql

from elefast.runtime.hashing import digest
from elefast.templates.project_files import Installed

__all__ = ["OpaqueError", "code_digest"]

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(...))
_PLAIN_BY_REPR = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
    os.PathLike,
    re.Pattern,
    enum.Enum,
    range,
)
# Names that a function uses to read files, variables or output of programs, which the digest cannot cover.
_OUTSIDE = frozenset(
    "open read_text read_bytes read environ getenv subprocess import_module __import__ listdir iterdir glob urlopen"
    " scandir walk rglob system popen".split()
)
_DIALECT: Any = postgresql.dialect()  # type: ignore[no-untyped-call]


class OpaqueError(Exception):
    """The digest of a function cannot be known, because of a value that the text names."""


def code_digest(function: object) -> str:
    """The digest of `function`, of the values that it refers to, and of the project's functions that it calls.

    Raises:
        OpaqueError: It refers to an object of an unknown kind, or it may read a file, the environment or the output
            of another program.
    """
    return digest(*_Walk().value(function, "it"))


class _Walk:
    def __init__(self) -> None:
        self._installed = Installed()
        self._seen: set[int] = set()

    def value(self, value: Any, name: str) -> Iterator[str]:
        """Text that represents `value`; errors call it `name`."""
        if isinstance(value, _PLAIN):
            yield repr(value)
        elif id(value) in self._seen:
            yield "seen"
        elif isinstance(value, _PLAIN_BY_REPR):
            yield repr(value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, tuple | list):
            yield from self._items(value, name)
        elif isinstance(value, set | frozenset):
            yield from self._items(sorted(value, key=repr), name)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, dict):
            yield from self._items(sorted(value.items(), key=repr), name)  # pyright: ignore[reportUnknownArgumentType]
        else:
            self._seen.add(id(value))
            yield from self._object(value, name)

    def _items(self, items: Any, name: str) -> Iterator[str]:
        yield str(len(items))
        for item in items:
            yield from self.value(item, name)

    def _object(self, value: Any, name: str) -> Iterator[str]:
        if isinstance(value, CodeType):
            yield value.co_code.hex()
            yield from self.value((value.co_names, value.co_varnames, value.co_freevars), name)
            yield from self.value(value.co_consts, name)
        elif isinstance(value, functools.partial):
            yield from self.value((value.func, value.args, value.keywords), name)
        elif isinstance(value, FunctionType):
            yield from self._function(value, name)
        elif isinstance(value, MethodType) and isinstance(value.__self__, type):
            yield from self.value(value.__func__, name)
        elif isinstance(value, Table):
            yield f"table {value.key}"
        elif isinstance(value, ClauseElement):
            yield str(value.compile(dialect=_DIALECT))
        elif isinstance(value, ModuleType | BuiltinFunctionType | logging.Logger) or self._is_known_class(value):
            # Of a module of the project, the attributes that the function uses are covered in `_globals`.
            yield str(getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or value)
        else:
            raise OpaqueError(f"{name} is {value!r}, which cannot be looked into")

    def _is_known_class(self, value: Any) -> bool:
        if not isinstance(value, type):
            return False
        # The tables of a mapped class are in the DDL.
        return hasattr(value, "__table__") or not self._is_of_the_project(value)

    def _is_of_the_project(self, value: Any) -> bool:
        try:
            path = inspect.getsourcefile(value)
        except TypeError:
            return False  # built in
        return path is None or not self._installed.has(os.path.abspath(path))

    def _function(self, function: FunctionType, name: str) -> Iterator[str]:
        closure = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        if not closure and not self._is_of_the_project(function):
            yield f"{function.__module__}.{function.__qualname__}"
            return
        yield from self.value(function.__code__, name)
        yield from self.value((function.__defaults__, function.__kwdefaults__), name)
        yield from self.value(closure, f"something that {function.__qualname__} closes over")
        if self._is_of_the_project(function):
            _refuse_reading(function)
            yield from self._globals(function)

    def _globals(self, function: FunctionType) -> Iterator[str]:
        names = sorted(_names(function.__code__))
        scope = function.__globals__
        for name in names:
            if name not in scope:
                continue
            value = scope[name]
            yield name
            yield from self.value(value, f"{name} in {function.__qualname__}")
            if isinstance(value, ModuleType) and self._is_of_the_project(value):
                for attribute in names:
                    if hasattr(value, attribute):
                        yield from self.value(getattr(value, attribute), f"{value.__name__}.{attribute}")


def _refuse_reading(function: FunctionType) -> None:
    """Raise OpaqueError where a function, or one that it calls, has a name in `_OUTSIDE`."""
    for name in sorted(_names(function.__code__)):
        origins = {name}
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType | FunctionType | BuiltinFunctionType):
            # import subprocess as sp, from subprocess import run
            origins |= {value.__name__, str(getattr(value, "__module__", ""))}
        if origins & _OUTSIDE:
            raise OpaqueError(f"{name} in {function.__qualname__} reads what cannot be seen here")


def _names(code: CodeType) -> set[str]:
    """All names that a function uses, including those of its inner functions."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  raises where the cell is empty
    except ValueError:
        return False
    return True

"""TOML files as Python reads them: each is read and parsed once, until it changes.

Several parts of one run ask for the same `pyproject.toml`: where the configuration lies, which keys it has, whether it
configures Alembic, and what the project is called.
This module must not know keys, and it imports no parser where nothing is parsed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

__all__ = ["TomlDocument", "TooDeepError", "read_toml"]

_MAX_DOCUMENTS = 16
_COARSEST_CLOCK = 2_000_000_000
"""Nanoseconds. FAT counts the time of a change in steps of two seconds, and no other file system is coarser."""

Version = tuple[int, int, int]
"""What tells two versions of a file apart: size, time of the last change, inode."""

_documents: dict[str, tuple[Version, TomlDocument]] = {}


class TooDeepError(ValueError):
    """The document is nested more deeply than Python's parser can follow."""


class TomlDocument:
    """The content of one file.

    Args:
        content: Its bytes.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._table: dict[str, Any] | None = None

    def table(self) -> dict[str, Any]:
        """The top table. All callers get the same object, so they must not change it.

        Raises:
            ValueError: The content is not TOML. It is a `UnicodeDecodeError` where the content is not UTF-8, a
                `TooDeepError`, or what `tomllib` raised.
        """
        if self._table is None:
            import tomllib

            try:
                self._table = tomllib.loads(self.content.decode())
            except RecursionError:
                raise TooDeepError("it is nested too deeply") from None
        return self._table


def read_toml(path: Path) -> TomlDocument:
    """Read a file, or return what was read of it before, if it has not changed since.

    Args:
        path: The file. Whether it is TOML shows when its table is asked for.

    Raises:
        OSError: The file cannot be read.
    """
    key = os.path.abspath(path)
    known = _documents.get(key)
    if known is not None and known[0] == _version(os.stat(key)):
        return known[1]
    with open(key, "rb") as file:
        status = os.fstat(file.fileno())
        document = TomlDocument(file.read())
    _documents.pop(key, None)
    # A file that was changed a moment ago can change again without another time.
    if time.time_ns() - status.st_mtime_ns > _COARSEST_CLOCK:
        if len(_documents) >= _MAX_DOCUMENTS:
            _documents.clear()
        _documents[key] = (_version(status), document)
    return document


def _version(status: os.stat_result) -> Version:
    return status.st_size, status.st_mtime_ns, status.st_ino

"""Which test has which database now, for `elefast psql` and `elefast ls` while a debugger holds a test.

Each process writes it to a small file in the cache directory of the user. That costs a test two writes of a few bytes.
A comment on the database would cost a commit on the server.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from elefast.runtime import cache_dir

__all__ = ["Checkout", "CurrentCheckouts", "current"]

_PREFIX, _SUFFIX = "running-", ".json"
FORGOTTEN_AFTER = 14 * 24 * 3600.0
"""Seconds after which the file of a killed process is removed."""


class Checkout(NamedTuple):
    """A database that is checked out.

    Args:
        project: The project of the test.
        test: The node id of the test.
    """

    project: str
    test: str


class CurrentCheckouts:
    """The checkouts of one process; safe for threads. Without a writable directory it records nothing.

    Args:
        project: The project of the tests.
        env: The environment of the process.
    """

    def __init__(self, project: str, env: Mapping[str, str]) -> None:
        self._project = project
        self._directory = cache_dir.cache_directory(env)
        self._now: dict[str, str] = {}
        # A descriptor, because a file object would warn when a stack that was not closed is garbage collected.
        self._file = -1
        self._path = ""
        self._lock = threading.Lock()

    def began(self, database: str, test: str) -> None:
        """Note that `test` has `database` from now on."""
        with self._lock:
            self._now[database] = test
            self._write()

    def ended(self, database: str) -> None:
        """Note that no test has `database` any more."""
        with self._lock:
            if self._now.pop(database, None) is not None:
                self._write()

    def close(self) -> None:
        """Remove the file."""
        with self._lock:
            self._directory = ""
            if self._file >= 0:
                os.close(self._file)
                with suppress(OSError):
                    os.unlink(self._path)
                self._file = -1

    def _write(self) -> None:
        if not self._directory:
            return
        try:
            if self._file < 0:
                self._file, self._path = _open(self._directory)
            # One write of one line. Readers ignore the rest of an earlier, longer line.
            line = json.dumps({"project": self._project, "databases": self._now}) + "\n"
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, line.encode())
        except OSError:
            self._directory = ""  # the file cannot be written, so record nothing


def current(env: Mapping[str, str]) -> dict[str, Checkout]:
    """The checkouts of this user's processes on this machine, by the name of the database.

    A killed process leaves its file, so a name is meaningful only where such a database exists.
    """
    found: dict[str, Checkout] = {}
    directory = cache_dir.cache_directory(env)
    with suppress(OSError):
        for entry in _files(directory) if directory else ():
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError), open(entry.path, "rb") as file:
                if not cache_dir.is_private(os.fstat(file.fileno()), 0o022):
                    continue
                record = json.loads(file.readline())
                for name, test in record["databases"].items():
                    found[str(name)] = Checkout(str(record["project"]), str(test))
    return found


def _open(directory: str) -> tuple[int, str]:
    """Create the file of this process; its descriptor and its path."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    long_ago = time.time() - FORGOTTEN_AFTER
    for entry in _files(directory):
        with suppress(OSError):
            if entry.stat(follow_symlinks=False).st_mtime < long_ago:
                os.unlink(entry.path)
    path = os.path.join(directory, f"{_PREFIX}{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600), path


def _files(directory: str) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return [entry for entry in entries if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX)]

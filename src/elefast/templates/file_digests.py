"""Digests of files, and stamps that show whether a file was touched.

A *stamp* has the size, the times of modification and of change, the inode and the device of a file. Every write,
rename, ``utime`` and ``chmod`` sets the time of change (ctime) to the current time, so a file that is changed, and
changed back, has another stamp.
"""

from __future__ import annotations

import os

from elefast.runtime.hashing import digest

__all__ = ["ABSENT", "Stamp", "of", "stamp", "was_touched"]

ABSENT = ""
"""The digest of a file that does not exist or cannot be read."""

Stamp = tuple[int, int, int, int, int]
"""Size, time of modification, time of change, inode, device."""

_stamps: dict[str, Stamp | None] = {}
"""The stamp of each file when its digest was last computed, by absolute path."""


def of(path: str | os.PathLike[str]) -> str:
    """The digest of a file's content, as 32 hexadecimal digits; `ABSENT` where there is no readable file."""
    name = os.path.abspath(path)
    try:
        with open(name, "rb") as file:
            # Taken before the content is read, so that a write during the read counts as a later one.
            _stamps[name] = _stamp(os.fstat(file.fileno()))
            return digest(file.read())
    except OSError:
        _stamps[name] = None
        return ABSENT


def was_touched(path: str | os.PathLike[str]) -> bool:
    """Whether a file was written, replaced or removed since its digest was last computed; False before that."""
    name = os.path.abspath(path)
    return name in _stamps and _stamps[name] != stamp(name)


def stamp(path: str | os.PathLike[str]) -> Stamp | None:
    """The stamp of a file; None where there is none."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev

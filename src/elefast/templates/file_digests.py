"""Digests of files, each read again only where it may have changed since.

A file is taken for unchanged while its *stamp* is: size, times of modification and of change, inode and device.
The time of change (ctime) is the one that counts: every write, rename, ``utime`` and ``chmod`` sets it to the
clock's now, and nothing sets it back. A stamp is trusted only

- on file systems of this machine, which Linux names in ``/proc/self/mountinfo``: the others keep caches of what
  another machine may change, and make inodes up,
- where it is settled: older than `SETTLED` when the file was read, as git does it, so that a write within the same
  tick of the clock is not missed,
- where its time of change has a fraction of a second: a coarse file system has none, and the clock may be set back
  to the same second.

Everything else is read each time. What this does not see is what no tool does that looks at stamps: a program that
keeps a file mapped and writes to it without a system call.

The digests of a project are kept in a file between runs. It is one of many copies of the truth: it is replaced as a
whole, and ignored where it is broken, or writable for others.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from contextlib import suppress
from functools import cache
from typing import Any

from elefast.runtime import cache_dir
from elefast.runtime.hashing import digest

__all__ = ["ABSENT", "SETTLED", "Stamp", "load", "memo", "of", "remember", "save", "stamp", "was_touched"]

ABSENT = ""
"""The digest of a file that is not there, or cannot be read."""

SETTLED = 2_000_000_000
"""Nanoseconds after which a further change of a file is sure to have another time than the last one."""

_FORMAT = 1
_FORGOTTEN_AFTER = 30 * 24 * 3600.0
_SECOND = 1_000_000_000
_LOCAL = frozenset("bcachefs btrfs ext2 ext3 ext4 f2fs overlay ramfs tmpfs xfs zfs".split())

Stamp = tuple[int, int, int, int, int]
"""Size, time of modification, time of change, inode, device."""

_known: dict[str, tuple[Stamp, str]] = {}
"""The digests that may be trusted, by absolute path, as long as the stamp is this one."""
_seen: dict[str, Stamp | None] = {}
"""Every file that was asked for, with its stamp then; kept files are a part of these."""
_memos: dict[str, str] = {}
_used_memos: set[str] = set()
_loaded: set[str] = set()
_news = False


def of(path: str | os.PathLike[str]) -> str:
    """The digest of a file's bytes, as 32 hexadecimal digits; `ABSENT` where there is no file that can be read."""
    name = os.path.abspath(path)
    try:
        found = os.stat(name)
    except OSError:
        _seen[name] = None
        return ABSENT
    now = _stamp(found)
    known = _known.get(name)
    if known is not None and known[0] == now:
        _seen[name] = now
        return known[1]
    return _read(name)


def _read(name: str) -> str:
    global _news
    _known.pop(name, None)
    now = time.time_ns()
    try:
        with open(name, "rb") as file:
            before = os.fstat(file.fileno())
            result = digest(file.read())
            after = _stamp(os.fstat(file.fileno()))
    except OSError:
        _seen[name] = None
        return ABSENT
    _seen[name] = after
    settled = before.st_ctime_ns + SETTLED < now and before.st_ctime_ns % _SECOND
    if settled and after == _stamp(before) and stat.S_ISREG(before.st_mode) and before.st_dev in _trusted_devices():
        _known[name] = after, result
        _news = True
    return result


def was_touched(path: str | os.PathLike[str]) -> bool:
    """Whether a file was touched in any way since its digest was last asked for, even if it is the same again."""
    name = os.path.abspath(path)
    return name in _seen and _seen[name] != stamp(name)


def stamp(path: str | os.PathLike[str]) -> Stamp | None:
    """What changes whenever a file does; None where there is none."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def memo(text: str) -> str | None:
    """What `remember` was told of `text`, whose digest is looked at and not the text itself; None where nothing."""
    name = digest(text)
    _used_memos.add(name)
    return _memos.get(name)


def remember(text: str, result: str) -> None:
    """Keep what was computed from `text`, and from nothing else, for `memo`."""
    global _news
    _memos[digest(text)] = result
    _news = True


def load(kept: str) -> None:
    """Take over the digests in the file `kept`; once for each file."""
    if kept in _loaded:
        return
    _loaded.add(kept)
    # Whatever is wrong with it, it is only a cache.
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError), open(kept, "rb") as file:
        if not cache_dir.is_private(os.fstat(file.fileno()), 0o022):
            return
        data: Any = json.load(file)
        if data["format"] != _FORMAT:
            return
        files: dict[str, tuple[Stamp, str]] = {}
        for name, (*numbers, result) in data["files"].items():
            size, modified, changed, inode, device = map(int, numbers)
            files[name] = (size, modified, changed, inode, device), _checked(result)
        memos = {str(name): _checked(result) for name, result in data["memos"].items()}
        # Devices get their numbers when the machine starts or mounts.
        trusted = _trusted_devices()
        _known.update((name, entry) for name, entry in files.items() if entry[0][4] in trusted)
        _memos.update(memos)


def save(kept: str) -> None:
    """Write the digests that this process had use for into the file `kept`, if it learnt a new one."""
    global _news
    if not _news:
        return
    _news = False
    used = {name: [*_known[name][0], _known[name][1]] for name in list(_seen) if name in _known}
    memos = {name: _memos[name] for name in list(_used_memos) if name in _memos}
    with suppress(OSError):  # no home, a full disk: then the files are read again
        cache_dir.write_atomically(
            kept, json.dumps({"format": _FORMAT, "files": used, "memos": memos}, separators=(",", ":"))
        )
        _forget_old(os.path.dirname(kept))


def _forget_old(place: str) -> None:
    """Remove what nobody has written for a month: of projects that are gone."""
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > _FORGOTTEN_AFTER:
                os.unlink(entry.path)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _checked(result: Any) -> str:
    if not isinstance(result, str) or not result:
        raise ValueError(result)
    return result


@cache
def _trusted_devices() -> frozenset[int]:
    """The devices of this machine's own file systems; none where they cannot be told from others."""
    found: set[int] = set()
    if sys.platform == "linux":
        with suppress(OSError, ValueError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                device, kind = line.split()[2], line.partition(" - ")[2].split()[0]
                if kind in _LOCAL:
                    major, _, minor = device.partition(":")
                    found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)

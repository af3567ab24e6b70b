"""The directory of small files that save time in the next run. Each of them may be deleted at any time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["ROOT_VARIABLE", "cache_directory", "is_private", "write_atomically"]

ROOT_VARIABLE = "_ELEFAST_ROOT"
"""For tests: this variable names a directory below which elefast keeps all of its files."""

_MAX_AGE = 30 * 24 * 3600.0
"""Seconds after which a file that no run has written again is removed."""


def cache_directory(env: Mapping[str, str]) -> str:
    """The cache directory of this user, which need not exist.

    Args:
        env: The environment variables of the run.

    Returns:
        The path; empty in CI, where nothing is kept for a next run.
    """
    if env.get("CI"):
        return ""
    root = os.environ.get(ROOT_VARIABLE, "")
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("elefast")
    return os.path.join(root, "caches")


def is_private(status: os.stat_result, forbidden: int) -> bool:
    """Whether a file belongs to this user and its mode has none of the bits in `forbidden`.

    Always true on Windows, whose modes say nothing about owners. Other users cannot write to a user's profile there.

    Args:
        status: The status of the file.
        forbidden: Permissions of the group and of others, such as ``0o022``.
    """
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & forbidden


def write_atomically(path: str, text: str) -> None:
    """Write the whole file or nothing.

    It also removes temporary files of processes that were killed while they wrote it, and all files of the directory
    that are older than a month, because the cache of a project that is gone is never written again.

    Args:
        path: The file; its directory is made if there is none.
        text: Its new text.

    Raises:
        OSError: The file cannot be written, or another thread of this process is writing it.
    """
    directory, name = os.path.split(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for entry in os.listdir(directory):
        head, _, process = entry.rpartition(".")
        if head == name and process.isdigit() and not _process_exists(int(process)):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, entry))
    _remove_old_files(directory)
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _remove_old_files(directory: str) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > _MAX_AGE:
                    os.unlink(entry.path)


def _process_exists(process: int) -> bool:
    """Whether another process has this id. Always true on Windows, which has no signal 0."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return process != os.getpid()

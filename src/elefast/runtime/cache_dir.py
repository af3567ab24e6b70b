"""The directory of small files that save time in the next run. Each of them may be deleted at any time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["ROOT_VARIABLE", "cache_directory", "is_private", "write_atomically"]

ROOT_VARIABLE = "_ELEFAST_ROOT"
_MONTH = 30 * 24 * 3600.0
"""For tests: everything of elefast goes below this directory."""


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


def replace(kept: str, text: str) -> None:
    """Write the file `kept`, as a whole or not at all.

    Removes temporary files of killed processes for it, and all files of the directory that are older than a month:
    those of projects that are gone.

    Raises:
        OSError: The file cannot be written, or another thread of this process is writing it.
    """
    directory, name = os.path.split(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for entry in os.listdir(directory):
        head, _, process = entry.rpartition(".")
        if head == name and process.isdigit() and not _process_exists(int(process)):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(place, entry))
    _remove_old(place)
    temporary = f"{kept}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _remove_old(place: str) -> None:
    with os.scandir(place) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > _MONTH:
                    os.unlink(entry.path)


def _lives(process: int) -> bool:
    """Whether there is another process of this number; on Windows, where nobody can just ask, there always is."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return process != os.getpid()

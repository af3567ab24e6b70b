"""Where elefast keeps small files for this user that only save time; each may vanish at any time."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["ROOT_VARIABLE", "directory", "is_ours", "replace"]

ROOT_VARIABLE = "_ELEFAST_ROOT"
"""For tests: everything of elefast goes below this directory."""


def directory(env: Mapping[str, str]) -> str:
    """The directory for them, which need not exist; empty in CI, where nothing is kept for a next run."""
    if env.get("CI"):
        return ""
    root = os.environ.get(ROOT_VARIABLE, "")
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("elefast")
    return os.path.join(root, "caches")


def is_ours(status: os.stat_result, others: int) -> bool:
    """Whether a file is this user's, and nobody else has any of the permissions `others`.

    Windows has neither in its modes; there the directories of a user's profile are the user's own.
    """
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & others


def replace(kept: str, text: str) -> None:
    """Write the file `kept`, as a whole or not at all, and remove what killed processes have left of it.

    Raises:
        OSError: There is no place for it, or somebody else is at it.
    """
    place, name = os.path.split(kept)
    os.makedirs(place, mode=0o700, exist_ok=True)
    for entry in os.listdir(place):
        head, _, process = entry.rpartition(".")
        if head == name and process.isdigit() and not _lives(int(process)):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(place, entry))
    temporary = f"{kept}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, kept)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


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

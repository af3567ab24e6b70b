"""Where elefast keeps small files for this user that only save time; each may vanish at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["ROOT_VARIABLE", "directory", "is_ours"]

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

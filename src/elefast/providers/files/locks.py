"""File locks that vanish with the process that holds them, on files that may be deleted at any time.

Three locks guard a server's directory:

- ``users`` is shared by every process that uses the server. Its exclusive side is the keeper's, who
  thereby learns that the last user has gone, however it went.
- ``keeper`` is held by the one process that may change or delete anything in the directory.
- ``start`` is held by the user who starts a keeper, for as long as that takes.

Two more guard a cluster, because the directories of two servers can share one: containers with a ``/dev/shm`` each and
one cache directory or one `local.data_dir` between them.

- The cluster's marker is locked by the keeper that has it.
- ``serving`` beside the data is locked by the processes of the server, which inherit it from their keeper. It tells of
  a server that cannot be seen from here, such as that of another container.

A lock on a file that was deleted or replaced meanwhile is no lock; so each is checked after it was taken.
(`filelock` has no shared locks, and polls where these can wait.)
Must stay light: the keeper imports it.
"""

from __future__ import annotations

import os
import time

__all__ = ["is_held", "same_file", "take", "take_soon"]


def take(path: str, *, exclusive: bool, wait: bool = False, make: bool = True) -> int | None:
    """Lock the file at `path`.

    Args:
        path: The file.
        exclusive: Or together with others.
        wait: Until nobody is in the way.
        make: Make the file where it does not exist.

    Returns:
        The descriptor that holds the lock until it is closed, or ``None``: somebody else has it, or the
        file was replaced while we waited.

    Raises:
        FileNotFoundError: The directory of the file has gone, or the file itself.
    """
    import fcntl

    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        if same_file(descriptor, path):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def take_soon(path: str, *, make: bool = True) -> int | None:
    """Lock `path` exclusively; none where it stays locked.

    A process that checks whether a lock is held takes it for a moment, so this tries more than once.
    """
    for _ in range(20):
        if (lock := take(path, exclusive=True, make=make)) is not None:
            return lock
        time.sleep(0.002)
    return None


def is_held(path: str) -> bool:
    """Whether some process holds the lock at `path` exclusively; a missing file is held by nobody."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def same_file(descriptor: int, path: str) -> bool:
    """Whether `path` still is the file that `descriptor` has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False

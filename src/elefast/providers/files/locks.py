"""File locks that end with the process that holds them, on files that may be deleted at any time.

Three locks guard the directory of a local server:

- ``users`` is held shared by every process that uses the server. The supervisor waits for the exclusive lock, and gets
  it when the last user has ended, even if that user was killed.
- ``keeper`` is held by the supervisor, the one process that may change or delete anything in the directory.
- ``start`` is held by the user that starts a supervisor, until the supervisor runs.

Two more guard a cluster, because two servers can share one cluster: two containers with a ``/dev/shm`` each may have
one cache directory or one `local.data_dir` in common.

- The cluster's marker is locked by the supervisor that uses it.
- ``serving`` beside the data is locked by the processes of the server, which inherit the lock from their supervisor. It
  shows a server whose processes are not visible from here, such as that of another container.

A lock on a file that was deleted or replaced excludes no other process, so each lock is checked after it was taken.
`filelock` is no alternative: it has no shared locks, and it polls where these locks can wait.
This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import os
import time

__all__ = ["is_held", "same_file", "take", "take_soon"]


def take(path: str, *, exclusive: bool, wait: bool = False, make: bool = True) -> int | None:
    """Lock the file at `path`.

    Args:
        path: The file.
        exclusive: Take the exclusive lock instead of the shared one.
        wait: Wait for the lock instead of giving up at once.
        make: Create the file if it does not exist.

    Returns:
        The descriptor that holds the lock until it is closed, or ``None`` if another process holds the lock, or if
        the file was replaced meanwhile.

    Raises:
        FileNotFoundError: The directory of the file does not exist, or the file itself without `make`.
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
    """Lock `path` exclusively, and try for some milliseconds.

    One attempt is not enough: a process that checks whether the lock is held takes it for a moment.

    Args:
        path: The file.
        make: Create the file if it does not exist.

    Returns:
        The descriptor that holds the lock, or ``None`` if another process keeps it.
    """
    for _ in range(20):
        if (lock := take(path, exclusive=True, make=make)) is not None:
            return lock
        time.sleep(0.002)
    return None


def is_held(path: str) -> bool:
    """Whether a process holds the exclusive lock on the file at `path`; false if there is no such file."""
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
    """Whether `path` still names the file that `descriptor` has open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False

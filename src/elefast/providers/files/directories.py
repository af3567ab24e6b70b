"""Elefast's directories: where they are, whether they are safe, and how they are deleted.

- The *memory* root is ``/dev/shm/elefast-<uid>``, the *disk* root is the user's cache directory. A *root* is private.
  Each server, cache and copy has a directory with elefast's marker in it.
- A directory without the marker is never deleted. A directory is renamed before it is emptied, so that other processes
  find either all of it or nothing.
- A process that builds or empties a directory locks its marker. That distinguishes the directories of living processes
  from those of killed ones.

This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time

from elefast.providers.failure import ProviderFailure
from elefast.providers.files import locks
from elefast.runtime.cache_dir import ROOT_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "BUILDING",
    "MARKER",
    "TRASH",
    "Places",
    "adopt",
    "building",
    "claim",
    "full_disk",
    "has_room",
    "is_kept",
    "is_ours",
    "places_for",
    "publish",
    "release",
    "remove",
    "remove_if_empty",
    "remove_left",
    "root",
    "space",
]

MARKER = ".elefast"
TRASH = "trash-"
BUILDING = "building-"
_UNFINISHED = re.compile(r"(building|trash-.+)-\d+-\d{16,}")
MEBIBYTE = 1024 * 1024
NEEDED_FILE_SYSTEM = 512 * MEBIBYTE
NEEDED_MEMORY = 1024 * MEBIBYTE


class Places:
    """The roots of one user.

    Args:
        memory: The root in memory; empty if the machine has none.
        disk: The root on a disk, which the server's user can reach.
    """

    def __init__(self, memory: str, disk: str) -> None:
        self.memory = memory
        self.disk = disk

    @property
    def servers(self) -> str:
        """The root of the servers' directories. It does not depend on free space, so that all processes agree on it."""
        return self.memory or self.disk

    @classmethod
    def default(cls) -> Places:
        """The roots of the user that this process runs as."""
        import platformdirs

        uid = os.geteuid()
        shared = "/dev/shm"
        memory = f"{shared}/elefast-{uid}" if os.path.isdir(shared) and os.access(shared, os.W_OK | os.X_OK) else ""
        # A server that root starts runs as another user, who cannot enter root's home.
        wanted = platformdirs.site_cache_dir("elefast") if uid == 0 else platformdirs.user_cache_dir("elefast")
        if _creatable(wanted):
            return cls(memory, wanted)
        import tempfile

        fallback = "/var/tmp" if uid == 0 else tempfile.gettempdir()
        return cls(memory, os.path.join(fallback, f"elefast-{uid}"))

    @classmethod
    def under(cls, directory: str) -> Places:
        """The roots below one directory, for tests."""
        return cls(os.path.join(directory, "memory"), os.path.join(directory, "disk"))


def _creatable(path: str) -> bool:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK | os.X_OK)


def root(path: str) -> str:
    """Make sure that `path` is a private directory of this user.

    Root's directories can be entered by others, but not listed, because the server's user needs its own directory.

    Returns:
        `path`.

    Raises:
        ProviderFailure: It is a link, not a directory, or another user's.
    """
    os.makedirs(os.path.dirname(path), mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    _private(path)
    return path


def claim(path: str) -> str:
    """Make sure that the directory `path`, directly in a root, exists and has elefast's marker."""
    _private(path)
    _mark(path, "")
    return path


def adopt(path: str) -> None:
    """Mark a directory that the user named: a new one, an empty one, or one with elefast's marker.

    Raises:
        ProviderFailure: It has other files in it, or cannot be used.
    """
    made = not os.path.lexists(path)
    if made:
        try:
            os.makedirs(path)
            os.chmod(path, 0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise ProviderFailure(
                "ServerStartError",
                f"local.data_dir: {path} cannot be made: {error.strerror}\nname a directory that this user may make",
                code="data-dir-unfit",
            ) from None
    if not os.path.isdir(path):
        raise ProviderFailure(
            "RefusedError",
            f"local.data_dir: {path} is not a directory\nname one, or one that is not there yet",
            code="foreign-directory",
        )
    if os.path.exists(os.path.join(path, MARKER)):
        return
    foreign = sorted(name for name in os.listdir(path) if name != "lost+found")
    if foreign:
        some = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise ProviderFailure(
            "RefusedError",
            f"local.data_dir: {path} has something in it that is not elefast's ({some})\n"
            "expected a new or an empty directory: elefast must be able to delete what is in it",
            code="foreign-directory",
        )
    _mark(path, "made" if made else "")


def release(path: str) -> None:
    """Undo `adopt`: remove the marker, and the directory as well if elefast made it and it is empty."""
    marker = os.path.join(path, MARKER)
    try:
        with open(marker, encoding="ascii") as file:
            made = file.read() == "made"
    except OSError:
        return
    if os.listdir(path) == [MARKER]:
        _unlink(marker)
        if made:
            remove_if_empty(path)


def building(parent: str) -> str:
    """A new directory in `parent`, whose content is built before the directory gets its final name.

    This process keeps its marker locked until it ends.
    """
    while True:
        path = os.path.join(parent, f"{BUILDING}{os.getpid()}-{time.time_ns()}")
        _private(path)
        # A cleanup in another process may remove it before it is locked.
        with contextlib.suppress(FileNotFoundError):
            if locks.take(os.path.join(path, MARKER), exclusive=True) is not None:
                return path


def publish(made: str, target: str) -> None:
    """Give a built directory its final name, or remove it if another process was faster."""
    try:
        os.rename(made, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        remove(made)


def _private(path: str) -> None:
    mode = 0o711 if os.geteuid() == 0 else 0o700
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a directory"
        raise ProviderFailure(
            "RefusedError",
            f"{path} is {kind}; elefast keeps its servers there\nlook who made it, and remove it",
            code="foreign-directory",
        )
    if status.st_uid != os.geteuid():
        raise ProviderFailure(
            "RefusedError",
            f"{path} belongs to the user {status.st_uid}, not to {os.geteuid()} who runs this\n"
            "look who made it, and remove it",
            code="foreign-directory",
        )
    if stat.S_IMODE(status.st_mode) != mode:
        os.chmod(path, mode)


def _mark(path: str, text: str) -> None:
    with open(os.path.join(path, MARKER), "a", encoding="ascii") as file:
        if text and not file.tell():
            file.write(text)


def is_ours(path: str) -> bool:
    """Whether `path` is a directory with elefast's marker. Links may lead out of the roots, and do not count."""
    marker = os.path.join(path, MARKER)
    return os.path.isfile(marker) and not os.path.islink(marker) and not os.path.islink(path)


def is_kept(path: str) -> bool:
    """Whether a process that builds, empties or uses the directory `path` holds the lock on its marker."""
    return is_ours(path) and locks.is_held(os.path.join(path, MARKER))


def remove(path: str) -> bool:
    """Delete a directory with elefast's marker and everything in it; false if there was none."""
    return _remove(path, even_if_in_use=True)


def remove_left(path: str) -> bool:
    """Delete a directory that no process builds or empties; false if there was none."""
    if _remove(path, even_if_in_use=False):
        return True
    if _UNFINISHED.fullmatch(os.path.basename(path)) and not os.path.islink(path):
        # Without a marker: a process that is about to mark it makes another directory instead.
        remove_if_empty(path)
    return False


def _remove(path: str, *, even_if_in_use: bool) -> bool:
    marker = os.path.join(path, MARKER)
    if not is_ours(path):
        return False
    try:
        lock = locks.take(marker, exclusive=True, make=False)
    except FileNotFoundError:
        return False
    try:
        # This process may have built it, and then it holds the lock already.
        return (even_if_in_use or lock is not None) and _empty(path)
    finally:
        if lock is not None:
            os.close(lock)


def _empty(path: str) -> bool:
    if not os.path.basename(path).startswith(TRASH):
        trash = os.path.join(os.path.dirname(path), f"{TRASH}{os.path.basename(path)}-{os.getpid()}-{time.time_ns()}")
        try:
            os.rename(path, trash)
        except FileNotFoundError:
            return False
        path = trash
    import shutil

    # The marker is removed last, so that the rest is still known to be elefast's after a kill.
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.name != MARKER:
            _unlink(entry.path)
    _unlink(os.path.join(path, MARKER))
    remove_if_empty(path)
    return True


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_if_empty(path: str) -> None:
    """Remove the directory if it is empty and this user may."""
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (
            errno.ENOTEMPTY,
            errno.EEXIST,
            errno.ENOENT,
            errno.EBUSY,
            errno.EACCES,
            errno.EPERM,
        ):
            raise


def space(path: str) -> tuple[int, int]:
    """Free and total bytes of the file system of `path`, or of its nearest parent that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status: Any = os.statvfs(path)
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def has_room(path: str) -> bool:
    """Whether there is enough memory and space for a server's data at `path`."""
    if space(path)[0] < NEEDED_FILE_SYSTEM:
        return False
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024 >= NEEDED_MEMORY
    except (OSError, KeyError, ValueError):
        return True


def full_disk(path: str) -> str:
    """The message for a full file system of `path`."""
    free, total = (value // MEBIBYTE for value in space(path))
    return (
        f"no space left for the server's data: the file system of {path} has {free} MB free of {total} MB\n"
        "make room there, or set local.data_dir (ELEFAST_LOCAL__DATA_DIR) to a directory with some hundred MB"
    )


def places_for(directory: str | os.PathLike[str] | None = None) -> Places:
    """The roots below `directory`, or those of this user."""
    named = str(directory) if directory else os.environ.get(ROOT_VARIABLE, "")
    return Places.under(os.path.abspath(named)) if named else Places.default()

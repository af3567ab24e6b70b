"""Directories: where they are, that they are safe, and how they are deleted.

- *memory*: ``/dev/shm/elefast-<uid>``; *disk*: the user's cache directory. Both are *roots*: private
  directories in which each thing of ours has a directory with a marker in it.
- Nothing without the marker is ever deleted, and a directory is first renamed, then emptied: whoever
  looks for it finds either all of it or nothing.
- Whoever puts a directory together or empties it has a lock on its marker, so that what a killed process
  was at can be told from what a living one is at.

Must stay light: the keeper imports it.
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
        memory: A root that is kept in memory; empty where the machine has none.
        disk: A root on a disk; the server's user can reach it.
    """

    def __init__(self, memory: str, disk: str) -> None:
        self.memory = memory
        self.disk = disk

    @property
    def servers(self) -> str:
        """Where the directories of servers are. Never depends on free space, or two processes that start
        one after the other would not find each other."""
        return self.memory or self.disk

    @classmethod
    def default(cls) -> Places:
        """The roots of the user that this process runs as."""
        import platformdirs

        uid = os.geteuid()
        shared = "/dev/shm"
        memory = f"{shared}/elefast-{uid}" if os.path.isdir(shared) and os.access(shared, os.W_OK | os.X_OK) else ""
        # A server that root starts runs as somebody else, who cannot enter root's home.
        wanted = platformdirs.site_cache_dir("elefast") if uid == 0 else platformdirs.user_cache_dir("elefast")
        if _creatable(wanted):
            return cls(memory, wanted)
        import tempfile

        fallback = "/var/tmp" if uid == 0 else tempfile.gettempdir()
        return cls(memory, os.path.join(fallback, f"elefast-{uid}"))

    @classmethod
    def under(cls, directory: str) -> Places:
        """Roots below one directory, for tests."""
        return cls(os.path.join(directory, "memory"), os.path.join(directory, "disk"))


def _creatable(path: str) -> bool:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK | os.X_OK)


def root(path: str) -> str:
    """Make sure that `path` is a private directory of ours, and give it back.

    As root it may be entered, not read, by others: the server's user has to get to its own directory.

    Raises:
        ProviderFailure: It is a link, no directory, or somebody else's.
    """
    os.makedirs(os.path.dirname(path), mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
    _private(path)
    return path


def claim(path: str) -> str:
    """Make sure that the directory `path`, directly in a root, exists and has our marker."""
    _private(path)
    _mark(path, "")
    return path


def adopt(path: str) -> None:
    """Make a directory that the user named ours: a new one, an empty one, or one with our marker.

    Raises:
        ProviderFailure: It has something else in it, or cannot be used.
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
    """The opposite of `adopt`: take the mark away, and the directory too if we made it and it is empty."""
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
    """A new directory in `parent` in which something is put together before it gets its name.

    Its marker is locked for as long as this process lives.
    """
    while True:
        path = os.path.join(parent, f"{BUILDING}{os.getpid()}-{time.time_ns()}")
        _private(path)
        # Somebody who sweeps may take it for a left one before it is locked.
        with contextlib.suppress(FileNotFoundError):
            if locks.take(os.path.join(path, MARKER), exclusive=True) is not None:
                return path


def publish(made: str, target: str) -> None:
    """Give what was built its name; where somebody was faster, theirs stays and ours goes."""
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
    """Whether `path` is a directory with our marker in it; neither is a link, which would lead out of our roots."""
    marker = os.path.join(path, MARKER)
    return os.path.isfile(marker) and not os.path.islink(marker) and not os.path.islink(path)


def is_kept(path: str) -> bool:
    """Whether some process holds the lock on the marker of `path`: one that puts it together, empties or uses it."""
    return is_ours(path) and locks.is_held(os.path.join(path, MARKER))


def remove(path: str) -> bool:
    """Delete a directory of ours with all that is in it; whether there was one."""
    return _remove(path, whatever=True)


def remove_left(path: str) -> bool:
    """Delete a directory that nobody puts together or empties any more; whether there was one."""
    if _remove(path, whatever=False):
        return True
    if _UNFINISHED.fullmatch(os.path.basename(path)) and not os.path.islink(path):
        # Not marked yet, or not any more; whoever is just about to mark it makes another one.
        remove_if_empty(path)
    return False


def _remove(path: str, *, whatever: bool) -> bool:
    marker = os.path.join(path, MARKER)
    if not is_ours(path):
        return False
    try:
        lock = locks.take(marker, exclusive=True, make=False)
    except FileNotFoundError:
        return False
    try:
        # We may have put it together ourselves, and then have the lock already.
        return (whatever or lock is not None) and _empty(path)
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

    # The marker goes last: what a kill leaves here can still be told to be ours.
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
    """Remove the directory unless there is something in it."""
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
    """Free and total bytes of the file system of `path`, or of the nearest directory that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status: Any = os.statvfs(path)
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def has_room(path: str) -> bool:
    """Whether a server's data may be put into memory at `path`."""
    if space(path)[0] < NEEDED_FILE_SYSTEM:
        return False
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024 >= NEEDED_MEMORY
    except (OSError, KeyError, ValueError):
        return True


def full_disk(path: str) -> str:
    """What to say when the file system of `path` is full."""
    free, total = (value // MEBIBYTE for value in space(path))
    return (
        f"no space left for the server's data: the file system of {path} has {free} MB free of {total} MB\n"
        "make room there, or set local.data_dir (ELEFAST_LOCAL__DATA_DIR) to a directory with some hundred MB"
    )


def places_for(directory: str | os.PathLike[str] | None = None) -> Places:
    """The roots below `directory`, or those of this user."""
    named = str(directory) if directory else os.environ.get(ROOT_VARIABLE, "")
    return Places.under(os.path.abspath(named)) if named else Places.default()

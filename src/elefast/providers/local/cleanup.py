"""Removes the directories that killed supervisors left: those with elefast's marker whose locks no process holds.

A server for reuse stays until it was not used for two weeks, and so do caches.
The supervisor calls this while no user waits for it, and so does a user that gave up waiting for a supervisor.
"""

from __future__ import annotations

import os
import time

from elefast.providers.files import directories, locks
from elefast.providers.local import cluster, state_file
from elefast.providers.local.processes import stop_orphans
from elefast.providers.local.provision import on_disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from elefast.providers.files.directories import Places

__all__ = ["sweep", "sweep_server"]

_CACHES = ("initdb-", "binaries-")
FORGOTTEN_AFTER = 14 * 24 * 3600.0


def sweep(places: Places, mine: str) -> None:
    """Remove the directories that were left in the roots. Errors of the file system are ignored.

    Args:
        places: The roots.
        mine: The identity of the server that stays.
    """
    for root in {places.servers, places.disk}:
        try:
            names = os.listdir(root)
        except OSError:
            continue
        for name in names:
            if name == mine:
                continue
            try:
                _sweep(places, root, name)
            except OSError:
                continue


def _sweep(places: Places, root: str, name: str) -> None:
    path = os.path.join(root, name)
    if name.startswith((directories.TRASH, directories.BUILDING)):
        directories.remove_left(path)
        return
    if not directories.is_ours(path):
        return
    if root == places.servers and not name.startswith(_CACHES):
        sweep_server(places, name)
    elif _age(path) > FORGOTTEN_AFTER and not os.path.exists(os.path.join(places.servers, name, state_file.USERS)):
        # Caches, copied binaries, and data on the disk whose server's directory in memory was lost.
        _remove_unused(path)


def sweep_server(places: Places, identity: str) -> None:
    """Remove the directory of a server that is not in use, unless its data are for reuse.

    Args:
        places: The roots.
        identity: Of the server.
    """
    path = os.path.join(places.servers, identity)
    if not directories.is_ours(path):
        return
    if _stays(path) and _age(os.path.join(path, state_file.USERS)) < FORGOTTEN_AFTER:
        return
    # First the lock of the users: while this process has it, no user can take the other lock for a supervisor's.
    users = locks.take(os.path.join(path, state_file.USERS), exclusive=True)
    if users is None:
        return
    supervisor = locks.take(os.path.join(path, state_file.SUPERVISOR), exclusive=True)
    try:
        if supervisor is None:
            return
        # A list, so that each directory is tried, even after one that stays.
        removed = [_remove_unused(home) for home in on_disk({"disk": places.disk, "identity": identity})]
        if all(removed):
            _remove_unused(path)
    finally:
        for descriptor in (supervisor, users):
            if descriptor is not None:
                os.close(descriptor)


def _remove_unused(home: str) -> bool:
    """Remove a directory with a cluster unless it is in use; whether it was removed.

    It is in use if another supervisor has it, or if a server runs on it that is not provably elefast's.
    """
    inside = os.path.join(home, "cluster")
    if directories.is_kept(inside):
        return False
    stop_orphans(os.path.join(inside, "data"))
    if locks.is_held(os.path.join(inside, cluster.SERVING)):
        return False
    directories.remove(home)
    return True


def _stays(path: str) -> bool:
    if os.path.exists(os.path.join(path, state_file.HELD)):
        return True
    # Without a state file there may be no data yet: the user was killed or interrupted before a supervisor started.
    return bool(state_file.read(path).get("reuse", os.path.exists(os.path.join(path, "cluster"))))


def _age(path: str) -> float:
    return time.time() - os.lstat(path).st_mtime

"""What killed keepers have left: found by the mark and by locks that nobody holds, and removed.

A server that is reused stays until nobody has wanted it for two weeks, and so do caches.
The keeper runs this, while nobody waits for it; and whoever has given up waiting for one.
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
    """Remove what is left in the roots, except the server `mine`; never raises for a file's sake."""
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
        # Caches, copied binaries, and data on the disk whose server's directory memory has lost.
        _remove_unused(path)


def sweep_server(places: Places, identity: str) -> None:
    """Remove a server's directory that nobody uses and nobody keeps, unless its data are to stay."""
    path = os.path.join(places.servers, identity)
    if not directories.is_ours(path):
        return
    if _stays(path) and _age(os.path.join(path, state_file.USERS)) < FORGOTTEN_AFTER:
        return
    # The users first: with that lock in our hands nobody can take the other one for a keeper's.
    users = locks.take(os.path.join(path, state_file.USERS), exclusive=True)
    if users is None:
        return
    keeper = locks.take(os.path.join(path, state_file.KEEPER), exclusive=True)
    try:
        if keeper is None:
            return
        # A list: one that stays is no reason to leave the others.
        removed = [_remove_unused(home) for home in on_disk({"disk": places.disk, "identity": identity})]
        if all(removed):
            _remove_unused(path)
    finally:
        for descriptor in (keeper, users):
            if descriptor is not None:
                os.close(descriptor)


def _remove_unused(home: str) -> bool:
    """Remove a directory with the cluster in it, unless that is in use; whether it is gone.

    It is in use if another keeper has it, or if a server is on it that is not provably ours to end.
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
    # Where nobody has said so, there may be nothing yet: its user was killed, or interrupted, before it had a keeper.
    return bool(state_file.read(path).get("reuse", os.path.exists(os.path.join(path, "cluster"))))


def _age(path: str) -> float:
    return time.time() - os.lstat(path).st_mtime

"""Prepares the start of a server: its user, its binaries and its data directory.

This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories, locks
from elefast.providers.local import cluster
from elefast.providers.local.account import Account, can_run, candidates
from elefast.providers.local.processes import stop_orphans
from elefast.runtime import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Provisioner", "clear_rubbish", "homes", "on_disk"]

ORPHAN_TIMEOUT = 10.0
"""Seconds that the processes of an earlier server may take to end."""
MOST_ON_ONE_DISK = 9
"""The number of containers with separate memory that can have servers of one configuration on one disk."""


class Provisioner:
    """Finds or makes everything that a server needs. Only its supervisor uses this, under its lock.

    After `find_cluster`, `notes` lists the repairs, and `pristine` is the path of a copy of a new cluster for the
    cache, or empty. `own_disk` is the directory of this server on the disk, or empty.

    Args:
        job: See `Supervisor`.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.directory: str = job["server"]
        self.places = directories.Places(job["memory"], job["disk"])
        self.own_disk = ""
        self.notes: list[str] = []
        self.pristine = ""

    def find_account(self) -> tuple[Account, str]:
        """The user that the server runs as, and the directory of the binaries that this user can execute.

        Raises:
            ProviderFailure: No user can execute the binaries.
        """
        binaries: str = self.job["bin"]
        program = os.path.join(binaries, "postgres")
        accounts = candidates(self.job["run_as"])
        if not accounts[0].switched:
            return accounts[0], binaries
        tried: list[str] = []
        for account in accounts:
            if not (why := can_run(program, account)):
                return account, binaries
            tried.append(f"as {account.name}: {why}")
        from elefast.providers.local.copy_binaries import copy_installation

        status = os.stat(program)
        import hashlib

        key = hashlib.sha256(f"{program} {status.st_mtime_ns} {status.st_size}".encode()).hexdigest()[:12]
        parents = (
            [lambda: directories.root(self.places.servers), lambda: directories.root(self.places.disk)]
            if self.job["reuse"]
            else [lambda: self.directory, self._claim_disk]
        )
        copied = copy_installation(binaries, parents, f"binaries-{key}")
        for account in accounts:
            if not (why := can_run(os.path.join(copied, "postgres"), account)):
                return account, copied
            tried.append(f"the copy in {copied}, as {account.name}: {why}")
        raise ProviderFailure(
            "ServerStartError",
            "\n".join(
                [
                    "PostgreSQL does not run as root, and no other user can execute it",
                    *(f"  {line}" for line in tried),
                    "set local.run_as (ELEFAST_LOCAL__RUN_AS) to a user who can, or run the tests as one",
                ]
            ),
            code="account-locked-out",
        )

    def find_cluster(self, binaries: str, account: Account) -> cluster.Cluster:
        """The cluster of an earlier supervisor if it can be used, or else a new one.

        Args:
            binaries: The directory of the binaries.
            account: The user that the server runs as.

        Raises:
            ProviderFailure: There is none and none can be made.
        """
        if self.job["data_dir"]:
            directories.adopt(self.job["data_dir"])
        while (found := self._left_cluster(account) or self._new_cluster(binaries, account)) is None:
            pass  # another supervisor was faster on the disk that both use
        return found

    def _left_cluster(self, account: Account) -> cluster.Cluster | None:
        """The cluster of an earlier supervisor, without a running server. Unusable clusters are removed."""
        named: str = self.job["data_dir"]
        for path in homes(self.job):
            if not os.path.lexists(path):
                continue
            if not self._take(path):
                if named:
                    raise ProviderFailure(
                        "ServerUnavailableError",
                        f"local.data_dir: another server uses {path}, such as one that another container started\n"
                        "wait until its last user has gone, or use another local.data_dir",
                        code="local-server-in-use",
                    )
                continue
            if not named and path != homes(self.job)[0]:
                self.own_disk = os.path.dirname(path)
            data = os.path.join(path, "data")
            found = cluster.load(path)
            why = self._unusable(found)
            if found and not why:
                # It is the file of an earlier server, because this one was not started yet.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(data, "postmaster.pid"))
                if account.switched and os.stat(data).st_uid != account.uid:
                    account.give(data)
                os.utime(os.path.dirname(path))  # tells the cleanup that it is in use
                return found
            if named and found:
                raise ProviderFailure(
                    "ServerStartError",
                    f"local.data_dir: {why} in {path}\n"
                    f"remove {path}, or set local.bin_dir, postgres or local.data_dir to what fits it",
                    code="data-dir-unfit",
                )
            self.notes.append(f"rebuilt the data directory: {why} in {path}")
            if not directories.remove(path):
                raise ProviderFailure(
                    "RefusedError",
                    f"{path} is in the way and does not have elefast's mark\nlook what it is, and remove it",
                    code="foreign-directory",
                )
        return None

    def _take(self, path: str) -> bool:
        """Lock the cluster at `path` until this process ends, and end a server that was left on it.

        Returns:
            False if another supervisor has it, or if a server runs on it that is not provably elefast's.
        """
        marker = os.path.join(path, directories.MARKER)
        if directories.is_ours(path) and locks.take_soon(marker, make=False) is None:
            return False
        data = os.path.join(path, "data")
        if stop_orphans(data):
            self.notes.append(f"stopped a server that had no supervisor on {data}")
        serving = os.path.join(path, cluster.SERVING)
        deadline = clock.now() + ORPHAN_TIMEOUT
        while locks.is_held(serving):
            if clock.now() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _new_cluster(self, binaries: str, account: Account) -> cluster.Cluster | None:
        parent = self._data_parent()
        clear_rubbish(parent)
        self._check_entrance(parent, account)
        made = cluster.build(
            parent,
            binaries=binaries,
            major=self.job["major"],
            account=account,
            iterations=self.job["iterations"],
            cache=self.job["cache"],
            timeout=max(120.0, self.job["start_timeout"]),
        )
        target = os.path.join(parent, os.path.basename(homes(self.job)[0]))
        if self.job["reuse"] and not cluster.load(self.job["cache"]):
            # Keep a copy that no server has run on. It is moved into the cache when no user waits.
            self.pristine = self._copy_aside(made, parent)
        try:
            os.rename(made, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            for path in filter(None, (made, self.pristine)):
                directories.remove(path)
            self.pristine = ""
            return None
        complete = cluster.load(target)
        assert complete is not None
        return complete

    def _unusable(self, found: cluster.Cluster | None) -> str:
        if found is None:
            return "it was not complete"
        if found.major != self.job["major"]:
            return f"data of PostgreSQL {found.major}, while the server is {self.job['version']}"
        if self.job["settings"].get("fsync") == "off" and found.lost_power():
            return "data that was in use when the machine went down (without fsync it cannot be trusted)"
        return ""

    def _data_parent(self) -> str:
        if self.job["data_dir"]:
            return str(self.job["data_dir"])
        in_memory = os.path.join(self.directory, "cluster")
        if self.places.memory and directories.has_room(self.places.memory) and not os.path.lexists(in_memory):
            return self.directory
        return self._claim_disk()

    def _claim_disk(self) -> str:
        if not self.own_disk:
            # The supervisor of a container with its own memory and the same disk may have the first.
            free = [path for path in homes(self.job)[1:] if not os.path.lexists(path) or not directories.is_kept(path)]
            if not free:
                raise ProviderFailure(
                    "ServerUnavailableError",
                    f"{MOST_ON_ONE_DISK} servers of this configuration have their data in {self.places.disk} already\n"
                    "set local.data_dir (ELEFAST_LOCAL__DATA_DIR) to another directory",
                    code="local-server-in-use",
                )
            directories.root(self.places.disk)
            self.own_disk = os.path.dirname(free[0])
        return directories.claim(self.own_disk)

    def _check_entrance(self, parent: str, account: Account) -> None:
        """Raise a clear error if the server's user cannot enter the directory of its data."""
        if not account.switched:
            return
        done = account.run(["/bin/sh", "-c", 'cd "$1"', "sh", parent])
        if done.returncode:
            raise ProviderFailure(
                "ServerStartError",
                f"the server runs as the user {account.name}, who cannot enter {parent}\n"
                "set local.data_dir (ELEFAST_LOCAL__DATA_DIR) to a directory that this user can enter",
                code="account-locked-out",
            )

    @staticmethod
    def _copy_aside(made: str, parent: str) -> str:
        import shutil

        aside = directories.building(parent)
        try:
            shutil.copytree(made, aside, symlinks=True, dirs_exist_ok=True)
        except OSError:
            # There is no space for a second one, so do without the cache.
            directories.remove(aside)
            return ""
        return aside


def homes(job: Mapping[str, Any]) -> list[str]:
    """The paths that the cluster of a server may have: first in memory, then on the disk."""
    if named := job["data_dir"]:
        return [os.path.join(named, "cluster" if job["reuse"] else "cluster-once")]
    return [os.path.join(job["server"], "cluster"), *(os.path.join(path, "cluster") for path in on_disk(job))]


def on_disk(job: Mapping[str, Any]) -> list[str]:
    """The directories on the disk that a server of this identity may have, of which it takes the first free one."""
    first = os.path.join(str(job["disk"]), str(job["identity"]))
    return [first, *(f"{first}-{number}" for number in range(2, MOST_ON_ONE_DISK + 1))]


def clear_rubbish(parent: str) -> None:
    """Remove the directories that a killed supervisor was building or removing in `parent`."""
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if name.startswith((directories.BUILDING, directories.TRASH)) and not directories.is_kept(path):
            # Its initdb may still run. It would leave shared memory behind if its directory were removed first.
            stop_orphans(os.path.join(path, "data"))
            directories.remove(path)

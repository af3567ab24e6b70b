"""Everything before the start: who runs the server, from which binaries, on which data directory.

Must stay light: the keeper imports it.
"""

from __future__ import annotations

import contextlib
import os

from elefast.providers.local import cluster, place, state
from elefast.providers.local.account import Account, can_run, candidates
from elefast.providers.local.processes import stop_orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Preparation", "clear_rubbish", "homes"]


class Preparation:
    """Finds or makes what a server needs; used by its keeper alone, under its lock.

    Args:
        job: See `Keeper`.

    After `find_cluster`, `notes` says what had to be put right, and `pristine` names a copy of a new
    cluster that is meant for the cache; empty where there is none.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.directory: str = job["server"]
        self.places = place.Places(job["memory"], job["disk"])
        self.own_disk = _own_disk(job)
        self.notes: list[str] = []
        self.pristine = ""

    def find_account(self) -> tuple[Account, str]:
        """Who runs the server, and where the binaries are that this user really can execute."""
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
        from elefast.providers.local.relocate import copy_installation

        status = os.stat(program)
        import hashlib

        key = hashlib.sha256(f"{program} {status.st_mtime_ns} {status.st_size}".encode()).hexdigest()[:12]
        parents = (
            [lambda: place.root(self.places.servers), lambda: place.root(self.places.disk)]
            if self.job["reuse"]
            else [lambda: self.directory, self._claim_disk]
        )
        copied = copy_installation(binaries, parents, f"binaries-{key}")
        for account in accounts:
            if not (why := can_run(os.path.join(copied, "postgres"), account)):
                return account, copied
            tried.append(f"the copy in {copied}, as {account.name}: {why}")
        raise state.KeeperError(
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
        named: str = self.job["data_dir"]
        if named:
            place.adopt(named)
        for path in homes(self.job):
            if not os.path.lexists(path):
                continue
            data = os.path.join(path, "data")
            if stop_orphans(data):
                self.notes.append(f"stopped a server that nobody kept on {data}")
            found = cluster.load(path)
            why = self._unusable(found)
            if found and not why:
                # A server that is not there any more; ours is not even started yet.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(data, "postmaster.pid"))
                if account.switched and os.stat(data).st_uid != account.uid:
                    account.give(data)
                os.utime(os.path.dirname(path))  # the sweep sees that somebody wants it
                return found
            if named and found:
                raise state.KeeperError(
                    "ServerStartError",
                    f"local.data_dir: {why} in {path}\n"
                    f"remove {path}, or set local.bin_dir, postgres or local.data_dir to what fits it",
                    code="data-dir-unfit",
                )
            self.notes.append(f"rebuilt the data directory: {why} in {path}")
            if not place.remove(path):
                raise state.KeeperError(
                    "RefusedError",
                    f"{path} is in the way and does not have elefast's mark\nlook what it is, and remove it",
                    code="foreign-directory",
                )
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
            # Keep one that no server ever touched; it goes to the cache when nobody waits for us.
            self.pristine = self._copy_aside(made, parent)
        os.rename(made, target)
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
        if self.places.memory and place.has_room(self.places.memory):
            return self.directory
        return self._claim_disk()

    def _claim_disk(self) -> str:
        place.root(self.places.disk)
        return place.claim(self.own_disk)

    def _check_entrance(self, parent: str, account: Account) -> None:
        """A clear word when the server's user cannot get to where its data shall be."""
        if not account.switched:
            return
        done = account.run(["/bin/sh", "-c", 'cd "$1"', "sh", parent])
        if done.returncode:
            raise state.KeeperError(
                "ServerStartError",
                f"the server runs as the user {account.name}, who cannot enter {parent}\n"
                "set local.data_dir (ELEFAST_LOCAL__DATA_DIR) to a directory that this user can enter",
                code="account-locked-out",
            )

    @staticmethod
    def _copy_aside(made: str, parent: str) -> str:
        import shutil

        aside = place.building(parent)
        try:
            shutil.copytree(made, aside, symlinks=True, dirs_exist_ok=True)
        except OSError:
            # No room for a second one: do without the cache.
            place.remove(aside)
            return ""
        return aside


def homes(job: Mapping[str, Any]) -> list[str]:
    """Where the cluster of a server may be."""
    if named := job["data_dir"]:
        return [os.path.join(named, "cluster" if job["reuse"] else "cluster-once")]
    return [os.path.join(job["server"], "cluster"), os.path.join(_own_disk(job), "cluster")]


def _own_disk(job: Mapping[str, str]) -> str:
    return os.path.join(job["disk"], job["identity"])


def clear_rubbish(parent: str) -> None:
    """Remove what a killed keeper was just making or removing in this directory."""
    for name in os.listdir(parent):
        if name.startswith((place.BUILDING, place.TRASH)):
            # Its initdb may still be at it; without its directory it would leave shared memory behind.
            stop_orphans(os.path.join(parent, name, "data"))
            place.remove(os.path.join(parent, name))

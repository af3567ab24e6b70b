"""A hold on a local server, as its user has it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elefast.providers.files import locks
from elefast.providers.files.fork_safe_lock import Hold
from elefast.providers.local import state_file
from elefast.providers.local.server import ADDRESS

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["LocalLease"]


class LocalLease:
    """A hold on a local server: a shared lock that ends with this process, however that ends."""

    provider = "local"
    owned = True

    def __init__(self, users: int, directory: str, described: Mapping[str, Any], reason: str) -> None:
        self._users = Hold(users)
        self._directory = directory
        self._described = described
        self.reason = reason
        self.ephemeral = not described["reuse"]
        self.data_dir: str = described["data"]
        """The server's data directory."""
        self.bin_dir: str = described["bin"]
        """The directory of the server's programs."""
        self.socket_dir: str = described["socket"]
        """The private directory of its Unix socket; empty where there is none."""
        self.log_path: str = os.path.join(directory, state_file.LOG)
        """The server's log; emptied at every start."""
        self.version: str = described["version"]
        """Of the server, such as ``18.1``."""
        self.notes: tuple[str, ...] = tuple(described["notes"])
        """What the start had to put right: a rebuilt data directory, a stopped orphan."""

    def __repr__(self) -> str:
        return f"<LocalLease {self.description}>"

    @property
    def description(self) -> str:
        """For people: version, where it comes from, where its data are."""
        shared = "kept" if not self.ephemeral else "not kept"
        who = f", run as {self._described['run_as']}" if self._described["run_as"] else ""
        return (
            f"PostgreSQL {self.version} ({self._described['origin']}), data in {self.data_dir}{who}, shared, {shared}"
        )

    @property
    def url(self) -> URL:
        """Maintenance access as superuser, over TCP."""
        from sqlalchemy import URL

        return URL.create(
            "postgresql+psycopg",
            username=self._described["user"],
            password=self._described["password"],
            host=ADDRESS,
            port=self._described["port"],
            database="postgres",
        )

    def ended(self) -> str:
        """What its keeper says, where there is one; without a keeper the server does not live long."""
        described = state_file.read(self._directory)
        status = described.get("status")
        if status == "died":
            return f"PostgreSQL ended by itself; the end of its log:\n{described['message']}"
        if status == "stopping":
            return "it was stopped"
        if not locks.is_held(os.path.join(self._directory, state_file.KEEPER)):
            return "the process that kept it was killed"
        return ""

    def hold(self) -> None:
        """Leave the server running after its last lease, until `stop_held`."""
        with (
            contextlib.suppress(FileNotFoundError),  # the directory was removed: nothing is left to hold
            open(os.path.join(self._directory, state_file.HELD), "a", encoding="ascii"),
        ):
            pass

    def release(self) -> None:
        """Give the hold back; in a forked child it never was one."""
        users = self._users.take()
        if users >= 0:
            import fcntl

            # Explicitly: a child that was forked without Python's knowledge may have the descriptor too.
            fcntl.flock(users, fcntl.LOCK_UN)
            os.close(users)

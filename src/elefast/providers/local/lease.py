"""The lease on a local server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elefast.providers.files import locks
from elefast.providers.files.fork_safe_lock import ForkSafeLock
from elefast.providers.local import state_file
from elefast.providers.local.server import ADDRESS

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["LocalLease"]


class LocalLease:
    """A lease on a local server. It is a shared lock, which ends with this process even if the process is killed.

    Args:
        users: The descriptor that holds the lock.
        directory: The directory of the server.
        described: What the supervisor wrote about the server.
        reason: Why this provider was chosen.
    """

    provider = "local"
    owned = True

    def __init__(self, users: int, directory: str, described: Mapping[str, Any], reason: str) -> None:
        self._users = ForkSafeLock(users)
        self._directory = directory
        self._described = described
        self.reason = reason
        self.ephemeral = not described["reuse"]
        self.data_dir: str = described["data"]
        """The server's data directory."""
        self.bin_dir: str = described["bin"]
        """The directory of the server's programs."""
        self.socket_dir: str = described["socket"]
        """The private directory of its Unix socket; empty if it has none."""
        self.log_path: str = os.path.join(directory, state_file.LOG)
        """The server's log; emptied at every start."""
        self.version: str = described["version"]
        """The version of the server, such as ``18.1``."""
        self.notes: tuple[str, ...] = tuple(described["notes"])
        """What the start had to repair: a rebuilt data directory, a stopped orphan."""

    def __repr__(self) -> str:
        return f"<LocalLease {self.description}>"

    @property
    def description(self) -> str:
        """Version, origin of the installation, and place of the data."""
        shared = "kept" if not self.ephemeral else "not kept"
        run_as = self._described["run_as"]
        account = f", run as {run_as}" if run_as else ""
        origin = self._described["origin"]
        return f"PostgreSQL {self.version} ({origin}), data in {self.data_dir}{account}, shared, {shared}"

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
        """Why the server has ended, by its supervisor. A server without a supervisor ends soon."""
        described = state_file.read(self._directory)
        status = described.get("status")
        if status == "died":
            return f"PostgreSQL ended by itself; the end of its log:\n{described['message']}"
        if status == "stopping":
            return "it was stopped"
        if not locks.is_held(os.path.join(self._directory, state_file.SUPERVISOR)):
            return "the process that kept it was killed"
        return ""

    def hold(self) -> None:
        """Leave the server running after its last lease, until `stop_held`."""
        with (
            contextlib.suppress(FileNotFoundError),  # the directory was removed, and the server with it
            open(os.path.join(self._directory, state_file.HELD), "a", encoding="ascii"),
        ):
            pass

    def release(self) -> None:
        """End the lease. In a forked child this does nothing, because the lock is the parent's."""
        users = self._users.detach()
        if users >= 0:
            import fcntl

            # Unlock explicitly: a child that C code forked may have the descriptor as well.
            fcntl.flock(users, fcntl.LOCK_UN)
            os.close(users)

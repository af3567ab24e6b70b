"""Lists the local servers of this user that run, and ends those that were left running."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elefast.providers.files import locks
from elefast.providers.files.directories import places_for
from elefast.providers.local import state_file
from elefast.providers.local.server import ADDRESS
from elefast.runtime import clock

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["RunningServer", "running_servers", "stop_held"]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that has a supervisor.

    Args:
        identity: Identifies it among the servers of this user.
        status: ``starting``, ``ready``, ``failed``, ``died`` or ``stopping``.
        version: The version of PostgreSQL, such as ``18.1``; empty while it starts.
        port: Its port on 127.0.0.1; 0 while it starts.
        pid: The process id of the postmaster; 0 while it starts.
        data_dir: Its data directory.
        reuse: Whether its data stay when it stops.
        held: Whether it was left running for an inspection of kept databases.
        in_use: Whether a process has a lease on it.
        elsewhere: Whether its port is in another network namespace, such as that of a container that shares the
            directory.
        url: Maintenance access with its password, which `repr` leaves out; ``None`` while it starts.
    """

    identity: str
    status: str
    version: str
    port: int
    pid: int
    data_dir: str
    reuse: bool
    held: bool
    in_use: bool
    elsewhere: bool
    url: URL | None


def running_servers(root: Path | None = None) -> list[RunningServer]:
    """All servers of this user that run, sorted by identity.

    Args:
        root: Search below this directory instead of the user's roots; for tests.
    """
    return [found for directory in _directories(root) if (found := _describe(directory)) and found.status != "failed"]


def stop_held(identity: str = "", *, root: Path | None = None, timeout: float = 40.0) -> list[RunningServer]:
    """End the servers that were left running with `hold`, and wait for their end.

    A server that is in use is not held any longer, so it ends with its last lease. A server in another container, which
    only shares the directory, is left alone.

    Args:
        identity: The only server to end; empty for all.
        root: Search below this directory instead of the user's roots; for tests.
        timeout: Seconds to wait for all of them.

    Returns:
        The servers that have ended.
    """
    released: list[tuple[str, RunningServer]] = []
    for directory in _directories(root):
        found = _describe(directory)
        if found and found.held and not found.elsewhere and identity in ("", found.identity):
            os.unlink(os.path.join(directory, state_file.HELD))
            if not found.in_use:
                released.append((directory, found))
    deadline = clock.now() + timeout
    ended: list[RunningServer] = []
    for directory, found in released:
        supervisor = os.path.join(directory, state_file.SUPERVISOR)
        while locks.is_held(supervisor) and clock.now() < deadline:
            time.sleep(0.01)
        if not locks.is_held(supervisor):
            ended.append(found)
    return ended


def _directories(root: Path | None) -> list[str]:
    if sys.platform == "win32":
        return []
    servers = places_for(root).servers
    try:
        return sorted(os.path.join(servers, name) for name in os.listdir(servers))
    except OSError:
        return []


def _describe(directory: str) -> RunningServer | None:
    if not locks.is_held(os.path.join(directory, state_file.SUPERVISOR)):
        return None
    described = state_file.read(directory)
    url = None
    if described.get("status") == "ready":
        from sqlalchemy import URL

        url = URL.create(
            "postgresql+psycopg",
            described["user"],
            described["password"],
            ADDRESS,
            described["port"],
            "postgres",
        )
    return RunningServer(
        identity=os.path.basename(directory),
        status=described.get("status", "starting"),
        version=described.get("version", ""),
        port=described.get("port", 0),
        pid=described.get("server", 0),
        data_dir=described.get("data", ""),
        reuse=described.get("reuse", True),
        held=os.path.exists(os.path.join(directory, state_file.HELD)),
        in_use=_in_use(directory),
        elsewhere=state_file.elsewhere(described),
        url=url,
    )


def _in_use(directory: str) -> bool:
    try:
        free = locks.take(os.path.join(directory, state_file.USERS), exclusive=True)
    except FileNotFoundError:
        return False
    if free is None:
        return True
    os.close(free)
    return False

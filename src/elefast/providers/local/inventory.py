"""The local servers of this user that run now, and ending those that were left running."""

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
    """A server that has a keeper.

    Args:
        identity: Names it among the servers of this user.
        status: ``starting``, ``ready``, ``failed``, ``died`` or ``stopping``.
        version: Of PostgreSQL, such as ``18.1``; empty while it starts.
        port: On 127.0.0.1; 0 while it starts.
        pid: Of the postmaster; 0 while it starts.
        data_dir: Its data directory.
        reuse: Its data stay when it stops.
        held: It was left running for a look at kept databases.
        in_use: Some process has a lease.
        elsewhere: Its port is in another network namespace, such as that of a container that shares the directory.
        url: Maintenance access with its password, which `repr` leaves out; nothing while it starts.
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
    """Every server of this user that runs, by identity."""
    return [found for directory in _directories(root) if (found := _describe(directory)) and found.status != "failed"]


def stop_held(identity: str = "", *, root: Path | None = None, timeout: float = 40.0) -> list[RunningServer]:
    """End the servers that were left running with `hold`, and wait for their end.

    One that is in use is not held any longer, and so ends with its last lease. One of another container, which has
    only the directory in common with us, is left alone.

    Args:
        identity: Only this one; empty for all.
        timeout: Seconds to wait for all of them.

    Returns:
        Those that have ended.
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
        keeper = os.path.join(directory, state_file.KEEPER)
        while locks.is_held(keeper) and clock.now() < deadline:
            time.sleep(0.01)
        if not locks.is_held(keeper):
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
    if not locks.is_held(os.path.join(directory, state_file.KEEPER)):
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

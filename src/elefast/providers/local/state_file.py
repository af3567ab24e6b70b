"""The files by which the supervisor and the users of a server communicate, in the server's directory.

Only the supervisor writes ``state.json``, always the whole file and atomically. Its ``status``:

    starting   the supervisor starts the server
    ready      users connect to `port` with `user` and `password`
    failed     the server did not start; `kind`, `message` and `code` give the reason, `at` the time; the supervisor
               waits until its users have read them
    died       the server ran and ended by itself
    stopping   the supervisor stops the server

Its ``namespaces`` are those of the supervisor and its server. In another PID namespace their process ids mean other
processes, and in another network namespace their port belongs to another program.

This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import json
import os

from elefast.providers.local.processes import namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["HELD", "LOG", "START", "STATE", "SUPERVISOR", "USERS", "elsewhere", "read", "write"]

USERS = "users"
# The file keeps its earlier name: a running supervisor of another version of elefast holds its lock under that name.
SUPERVISOR = "keeper"
START = "start"
STATE = "state.json"
LOG = "log"
HELD = "held"


def read(directory: str, name: str = STATE) -> dict[str, Any]:
    """The JSON object in the file `name` of `directory`; empty if the file cannot be read."""
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            value: dict[str, Any] | list[Any] | str | float | None = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def elsewhere(described: Mapping[str, Any]) -> bool:
    """Whether the server that `described` describes is in another network namespace than this process."""
    theirs, ours = described.get("namespaces", {}).get("net", ""), namespace("net")
    return bool(theirs and ours) and theirs != ours


def write(directory: str, value: dict[str, Any], name: str = STATE) -> None:
    """Replace the file `name` in `directory`, readable by its owner only. The caller must be its only writer."""
    target = os.path.join(directory, name)
    # The name is always the same, so that the next write replaces the file of a killed process.
    temporary = f"{target}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise

"""What keeper and users of a server tell each other, in the server's directory.

``state.json`` is written by the keeper alone, whole and atomically. Its ``status``:

    starting   the keeper works on it
    ready      connect to `port` with `user` and `password`
    failed     it did not start; `kind`, `message` and `code` say why, `at` when; the keeper waits until its users
               have read it
    died       it ran and ended by itself
    stopping   it is being stopped

Its ``namespaces`` are the keeper's and its server's: in another PID namespace their numbers mean other processes, and
in another network namespace their port is another one's.

Must stay light: the keeper imports it.
"""

from __future__ import annotations

import json
import os

from elefast.providers.local.processes import namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["HELD", "KEEPER", "LOG", "START", "STATE", "USERS", "elsewhere", "read", "write"]

USERS = "users"
KEEPER = "keeper"
START = "start"
STATE = "state.json"
LOG = "log"
HELD = "held"


def read(directory: str, name: str = STATE) -> dict[str, Any]:
    """The JSON object in `directory`; empty where there is none that can be read."""
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            value: dict[str, Any] | list[Any] | str | float | None = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def elsewhere(described: Mapping[str, Any]) -> bool:
    """Whether a keeper's server has its port in another network namespace than this process."""
    theirs, ours = described.get("namespaces", {}).get("net", ""), namespace("net")
    return bool(theirs and ours) and theirs != ours


def write(directory: str, value: dict[str, Any], name: str = STATE) -> None:
    """Replace the JSON object in `directory`, readable by its owner only. Nobody else may be at it."""
    target = os.path.join(directory, name)
    # Always the same name, so that what a killed process leaves is gone with the next one.
    temporary = f"{target}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise

"""Containers of ours that nobody uses: what killed processes and former configurations have left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elefast.errors import ServerError, ServerUnavailableError
from elefast.providers.docker.container import CONFIG, OWNER, PROJECT, REUSE, Wanted
from elefast.providers.docker.lifecycle import remove
from elefast.providers.docker.sharing import Share

if TYPE_CHECKING:
    from elefast.providers.docker.engine import Engine

__all__ = ["Stray", "clear_name", "drop", "leave", "ours", "sweep"]


@dataclass(frozen=True, slots=True)
class Stray:
    """A container of ours, as its labels describe it.

    Args:
        identity: The engine's id.
        name: Its name.
        config: Names its locks.
        project: The directory of its project.
        reuse: It stays for the next run.
    """

    identity: str
    name: str
    config: str
    project: str
    reuse: bool


def leave(engine: Engine, wanted: Wanted, share: Share, users: int, *, may_drop: bool = True) -> None:
    """Give the hold `users` back; the last one out removes a container that is not to be reused.

    Args:
        engine: Where.
        wanted: The container.
        share: Its locks.
        users: Our hold on them.
        may_drop: Whether the engine can be asked to remove it; otherwise the next run does.
    """
    with share.alone(users) as alone:
        if alone and may_drop and not wanted.reuse and not share.held:
            for found in engine.containers(wanted.labels):
                drop(engine, found["Id"])


def sweep(engine: Engine, wanted: Wanted, root: str) -> list[str]:
    """Remove what killed runs of this user have left, and what the project wanted before its configuration changed.

    Only what nobody uses and nobody keeps for a look. It never fails: what cannot be removed now can be later.

    Returns:
        What to tell the user.
    """
    told: list[str] = []
    strays = ours(engine, wanted.owner)
    for found in strays:
        former = found.project == wanted.project and found.reuse
        if found.config == wanted.config or not (former or not found.reuse):
            continue
        share = Share(root, found.config)
        if share.held:
            if former:
                told.append(
                    f"{found.name}, of another configuration, stays: databases were kept in it (`elefast down`)"
                )
            continue
        try:
            with share.alone() as alone:
                if alone and not share.held:
                    drop(engine, found.identity)
                    why = "its configuration is not the project's any more" if former else "its run was killed"
                    told.append(f"removed {found.name}: {why}")
        except ServerError as error:
            told.append(f"{found.name} cannot be removed now: {error}")
    _sweep_locks(root, {found.config for found in strays})
    return told


def _sweep_locks(root: str, configs: Set[str]) -> None:
    """Remove what processes have left that were killed while they waited, pulled, or had no container yet."""
    for config in set(os.listdir(root)) - configs:
        share = Share(root, config)
        # What is held may be on another engine.
        if not share.held:
            # What cannot be locked now is left to a later sweep.
            with contextlib.suppress(ServerError), share.alone():
                pass  # it clears up behind it, if nobody uses it


def clear_name(engine: Engine, root: str, identity: str, labels: Mapping[str, str], name: str) -> None:
    """Remove the container that has the name which another configuration of the same project wants.

    Raises:
        ServerUnavailableError: Somebody uses it.
    """
    share = Share(root, labels[CONFIG])
    with share.alone() as alone:
        if alone and not share.held:
            drop(engine, identity)
            return
    raise ServerUnavailableError(
        f'container "{name}" has another configuration, and is {"kept for a look" if share.held else "in use"}\n'
        "wait until its last user has gone (`elefast down` ends what is kept), or choose another docker.name",
        code="container-in-use",
    )


def ours(engine: Engine, owner: str) -> list[Stray]:
    """All containers whose users share our locks."""
    return [
        Stray(
            identity=str(found["Id"]),
            name=str((found.get("Names") or [found["Id"]])[0]).lstrip("/"),
            config=found["Labels"].get(CONFIG, ""),
            project=found["Labels"].get(PROJECT, ""),
            reuse=found["Labels"].get(REUSE) == "true",
        )
        for found in engine.containers({OWNER: owner})
        if found["Labels"].get(CONFIG)
    ]


def drop(engine: Engine, identity: str) -> None:
    """Remove a container and its volumes, unless it is gone already. Its locks have to be ours alone."""
    from docker.errors import NotFound

    with engine.doing("looking at a container"):
        try:
            container: Any = engine.client.containers.get(identity)
        except NotFound:
            return
    remove(engine, container)

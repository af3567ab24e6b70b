"""Removing elefast's containers that no process uses: those of killed processes and of former configurations."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elefast.errors import ServerError, ServerUnavailableError
from elefast.providers.docker.container import CONFIG, OWNER, PROJECT, REUSE, ContainerSpec
from elefast.providers.docker.lifecycle import remove
from elefast.providers.docker.sharing import Share

if TYPE_CHECKING:
    from elefast.providers.docker.engine import DockerEngine

__all__ = ["LabelledContainer", "clear_name", "drop", "labelled", "release", "sweep"]


@dataclass(frozen=True, slots=True)
class LabelledContainer:
    """A container of elefast's, as its labels describe it.

    Args:
        identity: The engine's id.
        name: The container's name.
        config: Identifies its configuration and its locks.
        project: The directory of its project.
        reuse: Whether it stays for the next run.
    """

    identity: str
    name: str
    config: str
    project: str
    reuse: bool


def release(engine: DockerEngine, spec: ContainerSpec, share: Share, users: int, *, may_drop: bool = True) -> None:
    """Release a lock on a container. The last user removes a container that is not for reuse.

    Args:
        engine: Where the container is.
        spec: The container.
        share: Its locks.
        users: The descriptor of this process's lock.
        may_drop: Whether the engine can be asked to remove it; otherwise the next run removes it.

    Raises:
        ServerError: The engine does not remove it, or the locks cannot be used.
    """
    with share.alone(users) as alone:
        if alone and may_drop and not spec.reuse and not share.held:
            for found in engine.containers(spec.labels):
                drop(engine, found["Id"])


def sweep(engine: DockerEngine, spec: ContainerSpec, root: str) -> list[str]:
    """Remove the containers of this user's killed runs, and those of former configurations of the project.

    Containers that are in use or held stay. A container that cannot be removed now is left to a later run.

    Args:
        engine: Where the containers are.
        spec: The container that the project wants now.
        root: The directory of all locks.

    Returns:
        Notes for the user.
    """
    notes: list[str] = []
    containers = labelled(engine, spec.owner)
    for found in containers:
        former = found.project == spec.project and found.reuse
        if found.config == spec.config or not (former or not found.reuse):
            continue
        share = Share(root, found.config)
        if share.held:
            if former:
                notes.append(
                    f"{found.name}, of another configuration, stays: databases were kept in it (`elefast down`)"
                )
            continue
        try:
            with share.alone() as alone:
                if alone and not share.held:
                    drop(engine, found.identity)
                    why = "its configuration is not the project's any more" if former else "its run was killed"
                    notes.append(f"removed {found.name}: {why}")
        except ServerError as error:
            notes.append(f"{found.name} cannot be removed now: {error}")
    _sweep_locks(root, {found.config for found in containers})
    return notes


def _sweep_locks(root: str, configs: Set[str]) -> None:
    """Remove the locks of processes that were killed while they had no container: they waited or pulled."""
    for config in set(os.listdir(root)) - configs:
        share = Share(root, config)
        # A held container may be on another engine.
        if not share.held:
            # Locks that another process uses are left to a later run.
            with contextlib.suppress(ServerError), share.alone():
                pass  # removes the directory if no process uses it


def clear_name(engine: DockerEngine, root: str, identity: str, labels: Mapping[str, str], name: str) -> None:
    """Remove a container of the same project whose name another configuration wants.

    Args:
        engine: Where the container is.
        root: The directory of all locks.
        identity: The container's id.
        labels: Its labels.
        name: Its name.

    Raises:
        ServerUnavailableError: A process uses it, or it is held.
    """
    share = Share(root, labels[CONFIG])
    with share.alone() as alone:
        if alone and not share.held:
            drop(engine, identity)
            return
    raise ServerUnavailableError(
        f'container "{name}" has another configuration, and is {"kept for inspection" if share.held else "in use"}\n'
        "wait until its last user has gone (`elefast down` ends what is kept), or choose another docker.name",
        code="container-in-use",
    )


def labelled(engine: DockerEngine, owner: str) -> list[LabelledContainer]:
    """All containers of `owner`, whose users share one directory of locks."""
    return [
        LabelledContainer(
            identity=str(found["Id"]),
            name=str((found.get("Names") or [found["Id"]])[0]).lstrip("/"),
            config=found["Labels"].get(CONFIG, ""),
            project=found["Labels"].get(PROJECT, ""),
            reuse=found["Labels"].get(REUSE) == "true",
        )
        for found in engine.containers({OWNER: owner})
        if found["Labels"].get(CONFIG)
    ]


def drop(engine: DockerEngine, identity: str) -> None:
    """Remove a container and its volumes, unless it has gone. The caller must have locked it with `Share.alone`."""
    from docker.errors import NotFound

    with engine.doing("looking at a container"):
        try:
            container: Any = engine.client.containers.get(identity)
        except NotFound:
            return
    remove(engine, container)

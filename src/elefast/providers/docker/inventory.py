"""Removing the containers of this user that were left running."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from elefast.errors import MissingDependencyError, ServerUnavailableError
from elefast.providers.docker.address import find
from elefast.providers.docker.cleanup import drop, labelled
from elefast.providers.docker.container import owner
from elefast.providers.docker.engine import connect
from elefast.providers.docker.provider import locks_root
from elefast.providers.docker.sharing import Share

__all__ = ["LeftContainer", "stop_containers"]


@dataclass(frozen=True, slots=True)
class LeftContainer:
    """A container that was left running.

    Args:
        name: Its name.
        project: The directory of its project.
        removed: Whether it was removed with its volumes; otherwise a process uses it.
    """

    name: str
    project: str
    removed: bool


def stop_containers(env: Mapping[str, str] | None = None) -> list[LeftContainer]:
    """Remove every container of this user that no process uses.

    A container that is in use is not held any longer, so unless it is for reuse its last lease removes it.

    Args:
        env: Variables such as ``DOCKER_HOST``; ``None`` for the environment of this process.

    Returns:
        The containers that there were; none if there is no trace of an engine.

    Raises:
        ServerError: The engine does not answer, went away meanwhile, or refuses.
    """
    if sys.platform == "win32":
        return []
    env = os.environ if env is None else env
    try:
        find(env)
    except ServerUnavailableError:
        return []
    try:
        engine = connect(env)
    except MissingDependencyError:
        return []
    root = locks_root()
    left: list[LeftContainer] = []
    try:
        for found in labelled(engine, owner(root)):
            share = Share(root, found.config)
            share.end_hold()
            with share.alone() as alone:
                if alone:
                    drop(engine, found.identity)
            left.append(LeftContainer(found.name, found.project, removed=alone))
    finally:
        engine.close()
    return left

"""Why a container did not start: the words of the engine or the end of the server's log, and one hint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elefast.errors import ServerStartError

if TYPE_CHECKING:
    from elefast.providers.docker.container import ContainerSpec

__all__ = ["DiedError", "died", "log_end", "name_taken", "port_taken", "start_error"]

LOG_LINES = 30
PORT_TAKEN = re.compile(r"port is already allocated|address already in use|ports are not available", re.IGNORECASE)


class DiedError(ServerStartError):
    """The container exists, but its server has ended."""


def name_taken(error: Any) -> bool:
    """Whether another container has the name: Docker answers 409, Podman 4 answers 500."""
    return error.status_code == 409 or "is already in use" in str(error.explanation)


def port_taken(error: Any) -> bool:
    """Whether another program listens on the port to publish."""
    return PORT_TAKEN.search(str(error.explanation or error)) is not None


def start_error(error: Any, spec: ContainerSpec) -> ServerStartError:
    """The error for the user if the engine refused to create or start the container.

    Args:
        error: The ``APIError`` of the SDK.
        spec: The container.
    """
    said = str(error.explanation or error).strip()
    if port_taken(error):
        port = f"port {spec.port}" if spec.port else "the port that the engine chose"
        return ServerStartError(
            f"{port} is taken\nthe engine says: {said}\n"
            "choose another docker.port (ELEFAST_HOST_PORT), or 0 for any; or stop what listens there",
            code="port-taken",
        )
    return ServerStartError(
        f"the engine does not start container {spec.container_name} of {spec.layout.reference}\n"
        f"the engine says: {said}\n`docker rm -f -v {spec.container_name}` removes what is left",
        code="container-not-started",
    )


def log_end(container: Any) -> str:
    """The last lines of a container's log, indented."""
    from docker.errors import APIError

    try:
        text: str = container.logs(tail=LOG_LINES).decode("utf-8", "replace")
    except APIError as error:
        text = f"(the engine does not give it: {error.explanation})"
    return "\n".join(f"  {line}" for line in text.splitlines()) or "  (nothing)"


def died(name: str, state: Mapping[str, Any], log: str, spec: ContainerSpec) -> DiedError:
    """The error for the user if the server of a container has ended, with the end of its log.

    Args:
        name: The container's name.
        state: The engine's description of the container's state.
        log: The end of its log.
        spec: The container.
    """
    status, code = state.get("Status"), state.get("ExitCode")
    lines = [f"container {name} ({spec.layout.reference}) is {status}, exit code {code}; the end of its log:", log]
    if state.get("OOMKilled") or "terminated by signal 9" in log:
        lines.append(
            "it ran out of memory: give the engine more, lower tuning.shared_buffers, "
            "or set docker.tmpfs = false to keep the data on disk"
        )
    elif "No space left on device" in log:
        lines.append(_full(log, spec))
    return DiedError("\n".join(lines), code="container-died")


def _full(log: str, spec: ContainerSpec) -> str:
    if "shared memory segment" in log:
        return f'docker.shm_size = "{spec.shm_size}" is too small for the server'
    if spec.in_memory:
        size = f'"{spec.tmpfs}"' if isinstance(spec.tmpfs, str) else "true"
        return f"docker.tmpfs = {size} is too small; an empty server needs about 64m, each database 8m"
    return "`docker system df` shows what fills the engine's disk"

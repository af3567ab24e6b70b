"""Why a container did not start, in words with a remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elefast.providers.docker.container import Wanted

__all__ = ["conflict", "died", "explain_start", "log_end", "port_taken", "start_code"]

LOG_LINES = 30
PORT_TAKEN = re.compile(r"port is already allocated|address already in use|ports are not available", re.IGNORECASE)


def conflict(error: Any) -> bool:
    """Whether the name was taken: Docker answers 409, Podman 4 answers 500."""
    return error.status_code == 409 or "is already in use" in str(error.explanation)


def port_taken(error: Any) -> bool:
    """Whether somebody else listens on the port to publish."""
    return PORT_TAKEN.search(str(error.explanation or error)) is not None


def explain_start(error: Any, wanted: Wanted) -> str:
    """Why the engine refused to create or start the container."""
    said = str(error.explanation or error).strip()
    if port_taken(error):
        if not wanted.port:
            return (
                f"the port that the engine chose for container {wanted.container_name} is taken, again and again\n"
                f"the engine says: {said}\nrun the tests again, or choose a free docker.port (ELEFAST_HOST_PORT)"
            )
        remedy = "choose another docker.port (ELEFAST_HOST_PORT), or 0 for any; or stop what listens there"
        return f"port {wanted.port} is taken, so the container cannot publish it\nthe engine says: {said}\n{remedy}"
    return (
        f"the engine does not start container {wanted.container_name} of {wanted.layout.reference}: {said}\n"
        f"mend what it says; `docker rm -f -v {wanted.container_name}` removes what is left"
    )


def start_code(error: Any) -> str:
    """The code of what `explain_start` says."""
    return "port-taken" if port_taken(error) else "container-not-started"


def log_end(container: Any) -> str:
    """The last lines of a container's log, indented."""
    from docker.errors import APIError

    try:
        text: str = container.logs(tail=LOG_LINES).decode("utf-8", "replace")
    except APIError as error:
        text = f"(the engine does not give it: {error.explanation})"
    return "\n".join(f"  {line}" for line in text.splitlines()) or "  (nothing)"


def died(name: str, state: Mapping[str, Any], log: str, wanted: Wanted) -> str:
    """Why a container has ended, with the end of its log."""
    status, code = state.get("Status"), state.get("ExitCode")
    lines = [f"container {name} ({wanted.layout.reference}) is {status}, exit code {code}; the end of its log:", log]
    if state.get("OOMKilled") or "terminated by signal 9" in log:
        lines.append(
            "the kernel ended it for lack of memory\n"
            "give the engine more, set tuning.shared_buffers lower, or docker.tmpfs = false to keep the data on disk"
        )
    elif "No space left on device" in log:
        lines.append(_full(log, wanted))
    return "\n".join(lines)


def _full(log: str, wanted: Wanted) -> str:
    if "shared memory segment" in log:
        return f'docker.shm_size = "{wanted.shm_size}" is too small for the server'
    if isinstance(wanted.tmpfs, str):
        return f'docker.tmpfs = "{wanted.tmpfs}" is too small; an empty server needs about 64m, each database 8m'
    if wanted.in_memory:
        return "the engine has too little memory for the data; set docker.tmpfs = false to keep them on disk"
    return "the engine's disk is full: `docker system df`, `docker system prune`"

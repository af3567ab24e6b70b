"""Where the engine listens, and whether this process runs in a container itself.

The address comes from `DOCKER_HOST`, the context of the Docker CLI, or a socket in one of the usual places. This module
reads files and variables and sends one short request to the engine. It does not import the docker SDK, so that `auto`
passes Docker over in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from elefast.errors import ServerUnavailableError

__all__ = ["Address", "container_id", "find", "in_container", "sandbox", "silence"]

LOCAL_ENGINE = "/var/run/docker.sock"
LOCAL_PODMAN = "/run/podman/podman.sock"
MARKS = ("/.dockerenv", "/run/.containerenv")
MOUNTS = "/proc/self/mountinfo"
# An engine mounts these files in each of its containers. The mounts show the container's id.
OWN_MOUNT = re.compile(r"[/-]containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) ")
NO_PERMISSION = "no permission on the Docker socket"
INSTEAD = (
    "start it (Docker Desktop, `systemctl start docker`, `podman system service`), set DOCKER_HOST, "
    'or set provider = "local"'
)


@dataclass(frozen=True, slots=True)
class Address:
    """The address of an engine.

    Args:
        url: As in ``DOCKER_HOST``: ``unix:///var/run/docker.sock``, ``tcp://docker:2376``, ``ssh://user@host``.
        why: Where the address comes from: ``DOCKER_HOST``, ``context "colima"``, ``default socket``.
        certificates: A directory with ``ca.pem``, ``cert.pem`` and ``key.pem``; empty without TLS.
        verify: Whether to check the engine's certificate, with TLS.
    """

    url: str
    why: str
    certificates: str = ""
    verify: bool = True

    @property
    def scheme(self) -> str:
        """``unix``, ``tcp``, ``http``, ``https``, ``ssh`` or ``npipe``."""
        return self.url.partition("://")[0]

    @property
    def path(self) -> str:
        """The file of a unix socket; empty for other schemes."""
        return self.url.partition("://")[2] if self.scheme == "unix" else ""

    @property
    def host(self) -> str:
        """The name of the machine; empty for a socket."""
        return "" if self.scheme in ("unix", "npipe") else urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the engine; 0 if the engine is not reached over TCP."""
        if self.scheme not in ("tcp", "http", "https"):
            return 0
        return urlsplit(self.url).port or (2376 if self.certificates or self.scheme == "https" else 2375)

    def __str__(self) -> str:
        return f"{self.url} ({self.why})"


def find(env: Mapping[str, str]) -> Address:
    """The engine that the Docker CLI would use, or else an engine whose socket is in a usual place.

    Args:
        env: Variables such as ``DOCKER_HOST``.

    Raises:
        ServerUnavailableError: There is no trace of an engine.
    """
    home = Path(env.get("HOME") or Path.home())
    config = Path(env.get("DOCKER_CONFIG") or home / ".docker")
    if url := env.get("DOCKER_HOST", "").strip():
        tls = bool(env.get("DOCKER_TLS_VERIFY"))
        certificates = env.get("DOCKER_CERT_PATH") or (str(config) if tls else "")
        return Address(url if "://" in url else f"tcp://{url}", "DOCKER_HOST", certificates, tls)
    name, why = _context(config, env)
    if name != "default":
        return _from_context(config, name, why)
    places = _sockets(home, env)
    for path in places:
        if os.path.exists(path):
            return Address(f"unix://{path}", "default socket" if path == LOCAL_ENGINE else "the first socket found")
    raise ServerUnavailableError(
        f"no Docker engine: DOCKER_HOST is not set, and there is no socket at {', '.join(places)}\n{INSTEAD}",
        code="docker-not-found",
    )


def _context(config: Path, env: Mapping[str, str]) -> tuple[str, str]:
    if name := env.get("DOCKER_CONTEXT"):
        return name, f'context "{name}" of DOCKER_CONTEXT'
    file = config / "config.json"
    name = str(_read(file).get("currentContext") or "default")
    return name, f'context "{name}" of {file}'


def _from_context(config: Path, name: str, why: str) -> Address:
    identity = hashlib.sha256(name.encode()).hexdigest()
    file = config / "contexts" / "meta" / identity / "meta.json"
    endpoint: Any = _read(file).get("Endpoints", {}).get("docker", {})
    if not endpoint.get("Host"):
        raise ServerUnavailableError(
            f"no Docker engine: {why} does not exist\n"
            "`docker context ls` lists those that do, `docker context use default` goes back to the local socket",
            code="docker-not-found",
        )
    certificates = config / "contexts" / "tls" / identity / "docker"
    tls = str(certificates) if certificates.is_dir() else ""
    return Address(endpoint["Host"], why, tls, not endpoint.get("SkipTLSVerify"))


def _read(file: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] | list[Any] | str | float | None = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _sockets(home: Path, env: Mapping[str, str]) -> list[str]:
    """The sockets of Docker, Docker without root, Docker Desktop and similar programs, and Podman, in this order."""
    runtime = env.get("XDG_RUNTIME_DIR", "")
    return [
        LOCAL_ENGINE,
        *([f"{runtime}/docker.sock"] if runtime else []),
        *(str(home / path) for path in (".docker/run/docker.sock", ".orbstack/run/docker.sock")),
        *(str(home / path) for path in (".colima/default/docker.sock", ".rd/docker.sock")),
        *([f"{runtime}/podman/podman.sock"] if runtime else []),
        LOCAL_PODMAN,
    ]


def silence(address: Address, timeout: float) -> str:
    """Why no engine answers at `address`; empty if one answers, or if only the SDK could ask it, as over ssh.

    Args:
        address: The address of the engine.
        timeout: Seconds for everything, including the lookup of the host's name.
    """
    if address.scheme not in ("unix", "tcp", "http", "https"):
        return ""
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(_ask(address, timeout)), daemon=True)
    asking.start()
    asking.join(timeout)
    return said[0] if said else _no_answer(address, timeout)


def _ask(address: Address, timeout: float) -> str:
    try:
        with _connect(address, timeout) as channel:
            if address.certificates or address.scheme == "https":
                return ""
            channel.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            answer = channel.recv(64)
    except TimeoutError:
        return _no_answer(address, timeout)
    except PermissionError:
        return (
            f"{NO_PERMISSION} {address}\n"
            "join the group that may use it (`sudo usermod -aG docker $USER`, then log in again), "
            "or use Docker without root"
        )
    except OSError as error:
        return f"no Docker engine at {address}: {error.strerror or error}\n{INSTEAD}"
    # Any HTTP status counts as an answer, because a proxy may hide the path.
    return "" if answer.startswith(b"HTTP/") else f"what listens at {address} is no Docker engine\n{INSTEAD}"


def _connect(address: Address, timeout: float) -> socket.socket:
    if not address.path:
        return socket.create_connection((address.host, address.port), timeout)
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(timeout)
        channel.connect(address.path)
    except BaseException:
        channel.close()
        raise
    return channel


def _no_answer(address: Address, timeout: float) -> str:
    return (
        f"the Docker engine at {address} does not answer within {timeout:g} s\n"
        "`docker version` should; restart the engine if it hangs too"
    )


def in_container() -> bool:
    """Whether this process runs in a container, by the mark that engines leave there."""
    return any(os.path.exists(mark) for mark in MARKS)


def container_id() -> str:
    """The id of the container that this process runs in; empty if it is not known."""
    try:
        with open(MOUNTS, encoding="utf-8") as file:
            match = OWN_MOUNT.search(file.read())
    except OSError:
        return ""
    return match[1] if match else ""


def sandbox() -> str:
    """Identifies the container that this process runs in; empty outside of containers.

    The host name does not identify it: it may be fixed, or the machine's (``--network host``).
    """
    if not in_container():
        return ""
    if identity := container_id():
        return identity
    try:
        return str(os.stat("/dev/shm").st_dev)
    except OSError:
        return ""

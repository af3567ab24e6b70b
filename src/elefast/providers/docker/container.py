"""The specification of a container: how it is created, its name, and the labels by which it is found."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from elefast.providers.docker.address import in_container, sandbox
from elefast.providers.docker.image import Layout
from elefast.providers.scram import verifier

__all__ = ["CONFIG", "OWNER", "PORT", "PROJECT", "REUSE", "ContainerSpec", "digest", "owner"]

OWNER = "dev.elefast.owner"
PROJECT = "dev.elefast.project"
CONFIG = "dev.elefast.config"
REUSE = "dev.elefast.reuse"
PORT = "5432/tcp"
FORMAT = 1
"""Part of every digest; raised when containers are created in another way."""


@dataclass(frozen=True)
class ContainerSpec:
    """Everything that decides how a container is created. Processes with equal specifications share one container.

    Args:
        owner: The owner of the locks, see `owner`.
        project: The project's directory.
        engine: The address of the engine.
        layout: The layout of the image.
        name: The name that the project chose; empty for one of elefast's choice.
        bind: The address to publish on; empty for all.
        port: The port to publish on; 0 for any.
        user: The superuser.
        password: The superuser's password.
        scram_iterations: Rounds of hashing the password.
        reuse: Whether the container stays for the next run.
        tmpfs: Whether the data are in memory, or how much memory they may take.
        shm_size: The size of ``/dev/shm``; empty for the engine's default.
        platform: The platform of the image; empty for the engine's own.
        settings: The settings of the server.
    """

    owner: str
    project: str
    engine: str
    layout: Layout
    name: str
    bind: str
    port: int
    user: str
    password: str = field(repr=False)
    scram_iterations: int
    reuse: bool
    tmpfs: bool | str
    shm_size: str
    platform: str
    settings: Mapping[str, str]

    @cached_property
    def config(self) -> str:
        """Identifies container and locks. Every user of the engine can read labels, so it does not reveal the password
        without the other values."""
        values = {key: value for key, value in vars(self).items() if key not in ("layout", "settings", "config")}
        return digest(FORMAT, values, self.layout.identity, sorted(self.settings.items()))

    @property
    def container_name(self) -> str:
        """The name that the project chose, or one with the name of the project's directory."""
        slug = re.sub(r"[^a-z0-9]+", "-", os.path.basename(self.project).lower()).strip("-")[:30]
        return self.name or "-".join(part for part in ("elefast", slug, self.config) if part)

    @property
    def labels(self) -> dict[str, str]:
        """The labels that mark the container as elefast's, and as this one."""
        return {
            OWNER: self.owner,
            PROJECT: self.project,
            CONFIG: self.config,
            REUSE: "true" if self.reuse else "false",
        }

    @property
    def in_memory(self) -> bool:
        """Whether the data are in memory, and so end with the container."""
        return self.tmpfs is not False

    def arguments(self) -> dict[str, Any]:
        """The arguments of ``client.containers.create``."""
        arguments: dict[str, Any] = {
            "image": self.layout.reference,
            "name": self.container_name,
            "command": [
                *self.layout.command,
                *(word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")),
            ],
            "environment": {
                "POSTGRES_USER": self.user,
                "POSTGRES_PASSWORD": self._stored_password(),
                "POSTGRES_DB": "postgres",
                # The image's locale stays: another one may not exist there, or sort unlike production.
                "POSTGRES_INITDB_ARGS": f"{self.layout.initdb} --no-sync".lstrip(),
            },
            "labels": self.labels,
            "ports": {PORT: (self.bind, self.port or None) if self.bind else self.port or None},
        }
        if self.in_memory:
            size = f",size={self.tmpfs}" if isinstance(self.tmpfs, str) else ""
            arguments["tmpfs"] = {self.layout.mount: f"rw{size}"}
        if self.shm_size:
            arguments["shm_size"] = self.shm_size
        if self.platform:
            arguments["platform"] = self.platform
        return arguments

    def _stored_password(self) -> str:
        """The verifier of the password if possible: it makes connections faster and does not reveal the password."""
        # Versions before 10 have no SCRAM, and other characters would have to be normalized first.
        if self.layout.major < 10 or not self.password.isascii() or not self.password.isprintable():
            return self.password
        return verifier(self.password, self.scram_iterations)


def owner(locks: str) -> str:
    """Identifies the processes that share the directory `locks`, and so know whether a container is in use.

    Another machine with the same engine, another container on this machine and another user have other locks, even if
    their directories have the same path.
    """
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        machine = ""
    place = [sandbox()] if in_container() else []
    return digest(machine, os.uname().nodename.partition(".")[0], os.getuid(), locks, *place)


def digest(*parts: Any) -> str:
    """A short digest of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

"""The container that a project wants: how it is created, what names it, and the labels by which it is found."""

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

from elefast.providers.docker.image import Layout
from elefast.providers.docker.inside import in_container, sandbox
from elefast.providers.scram import verifier

__all__ = ["CONFIG", "OWNER", "PORT", "PROJECT", "REUSE", "Wanted", "digest", "owner"]

OWNER = "dev.elefast.owner"
PROJECT = "dev.elefast.project"
CONFIG = "dev.elefast.config"
REUSE = "dev.elefast.reuse"
PORT = "5432/tcp"
FORMAT = 1
"""Part of every digest; goes up when containers are made differently."""


@dataclass(frozen=True)
class Wanted:
    """All that decides how a container is made. Two that are equal can share one.

    Args:
        owner: Of the locks, see `owner`.
        project: The project's directory.
        engine: The address of the engine.
        layout: Of the image.
        name: Chosen by the project; empty for one of ours.
        bind: The address to publish on; empty for all.
        port: To publish on; 0 for any.
        user: The superuser.
        password: The superuser's.
        scram_iterations: Of hashing it.
        reuse: Whether it stays for the next run.
        tmpfs: Data in memory: yes, no, or at most so much.
        shm_size: Of ``/dev/shm``; empty for the engine's default.
        platform: Of the image; empty for the engine's own.
        settings: Of the server.
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
        """Identifies container and locks. Labels can be read by everybody who can use the engine, so it tells
        nothing about the password by itself."""
        values = {key: value for key, value in vars(self).items() if key not in ("layout", "settings", "config")}
        return digest(FORMAT, values, self.layout.identity, sorted(self.settings.items()))

    @property
    def container_name(self) -> str:
        """The project's choice, or one that tells people whose it is."""
        slug = re.sub(r"[^a-z0-9]+", "-", os.path.basename(self.project).lower()).strip("-")[:30]
        return self.name or "-".join(part for part in ("elefast", slug, self.config) if part)

    @property
    def labels(self) -> dict[str, str]:
        """What marks it as ours, and as this one."""
        return {
            OWNER: self.owner,
            PROJECT: self.project,
            CONFIG: self.config,
            REUSE: "true" if self.reuse else "false",
        }

    @property
    def in_memory(self) -> bool:
        """Whether its data end with it."""
        return self.tmpfs is not False

    def arguments(self) -> dict[str, Any]:
        """For ``client.containers.create``."""
        made: dict[str, Any] = {
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
                # The locale stays the image's: another may not exist there, or sort otherwise than in production.
                "POSTGRES_INITDB_ARGS": f"{self.layout.initdb} --no-sync".lstrip(),
            },
            "labels": self.labels,
            "ports": {PORT: (self.bind, self.port or None) if self.bind else self.port or None},
        }
        if self.in_memory:
            size = f",size={self.tmpfs}" if isinstance(self.tmpfs, str) else ""
            made["tmpfs"] = {self.layout.mount: f"rw{size}"}
        if self.shm_size:
            made["shm_size"] = self.shm_size
        if self.platform:
            made["platform"] = self.platform
        return made

    def _stored_password(self) -> str:
        """What the server stores of it, if that can be told; it costs less, and says less to others."""
        # Versions before 10 know no SCRAM, and other characters would have to be normalized first.
        if self.layout.major < 10 or not self.password.isascii() or not self.password.isprintable():
            return self.password
        return verifier(self.password, self.scram_iterations)


def owner(locks: str) -> str:
    """Who shares the directory `locks` of lock files, and so knows whether a container is in use.

    Another machine with the same engine, another container on this one and another user have other locks,
    whatever their directories are called.
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

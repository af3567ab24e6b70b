"""What several tests of containers look at: which containers a project has, and how the server in one is set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from elefast.providers.docker.container import PROJECT

if TYPE_CHECKING:
    from docker import DockerClient
    from sqlalchemy import URL

__all__ = ["containers", "show"]


def containers(client: DockerClient, project: Path) -> list[str]:
    """The ids of a project's containers."""
    label = f"{PROJECT}={os.path.realpath(project)}"
    return [container["Id"] for container in client.api.containers(all=True, filters={"label": label})]


def show(url: URL, *names: str) -> list[str]:
    """Settings of the server at `url`."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        rows = connection.execute("select current_setting(name) from unnest(%s::text[]) name", [list(names)])
        return [str(value) for (value,) in rows]

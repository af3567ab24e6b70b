"""What several tests of containers need: the engine, free ports, a project's containers, their servers' settings."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
import pytest

from elefast.providers.docker.address import find
from elefast.providers.docker.container import PROJECT
from elefast.providers.docker.engine import connect

if TYPE_CHECKING:
    from docker import DockerClient
    from sqlalchemy import URL

__all__ = ["containers", "engine_client", "free_port", "show", "skip_or_fail", "where_engine_is"]


def skip_or_fail(why: str) -> NoReturn:
    """For what a machine with an engine has: missing, it is a skip, or a failure with TEST_DOCKER=required."""
    if os.environ.get("TEST_DOCKER") == "required":
        pytest.fail(why)
    pytest.skip(why)


def engine_client() -> Any:
    """A ``DockerClient`` of the engine that elefast finds here, to be closed."""
    return connect({**os.environ, **where_engine_is()}, contact_timeout=60).client


def where_engine_is() -> dict[str, str]:
    """The variables that name this engine, whatever becomes of the configuration of the Docker CLI."""
    found = find(os.environ)
    variables = {"DOCKER_HOST": found.url}
    if found.certificates:
        variables |= {"DOCKER_CERT_PATH": found.certificates, "DOCKER_TLS_VERIFY": "1" if found.verify else ""}
    return variables


def free_port() -> int:
    """A port below those that systems give to clients and to containers, so that nobody takes it meanwhile."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


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

"""A real engine for the tests of containers, or a visible skip."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def docker_client(elefast_root: object) -> Generator[DockerClient]:
    """The engine of this machine; where none answers the tests are skipped, or fail with TEST_DOCKER=required."""
    required = os.environ.get("TEST_DOCKER") == "required"
    if not required:
        pytest.importorskip("docker", reason="the docker extra is not installed")
    from docker.errors import DockerException

    from docker import DockerClient

    try:
        client = DockerClient.from_env(timeout=60)
        client.ping()
    except DockerException as error:
        if required:
            raise
        pytest.skip(f"no Docker engine answers: {error}")
    try:
        yield client
    finally:
        client.close()

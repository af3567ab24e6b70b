"""A real engine for the tests of containers, or a visible skip."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from elefast.errors import ServerUnavailableError
from elefast.providers.docker.address import find, silence
from tests.integration.docker.container_support import Clients, names
from tests.integration.docker.docker_support import containers, engine_client, skip_or_fail
from tests.integration.providers.provider_support import until

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session", autouse=True)
def nothing_left(request: pytest.FixtureRequest, elefast_root: object) -> Generator[None]:
    """Proof that the tests leave no container of this run behind, and alone on the engine no volume or network."""
    # A developer's engine has other users.
    alone = os.environ.get("TEST_DOCKER") == "required" and not hasattr(request.config, "workerinput")
    if _no_engine():
        yield
        return
    client = engine_client()
    try:
        before = _inventory(client) if alone else frozenset[str]()
        yield
        left = names(client)
        for name in left:
            client.containers.get(name).remove(force=True, v=True)
        assert not left, "containers left behind by the tests"
        # What others remove at this moment needs a while to go.
        assert not alone or until(lambda: _inventory(client) <= before, 30), _inventory(client) - before
    finally:
        client.close()


@cache
def _no_engine() -> str:
    """Why there is no engine; asked without the SDK, which leaves sockets open where none answers."""
    if importlib.util.find_spec("docker") is None:
        return "the docker extra is not installed"
    try:
        return silence(find(os.environ), timeout=20).partition("\n")[0]
    except ServerUnavailableError as error:
        return str(error).partition("\n")[0]


def _inventory(client: Any) -> frozenset[str]:
    """Volumes that no container has, and networks."""
    volumes = client.volumes.list(filters={"dangling": True})
    return frozenset([*(volume.name for volume in volumes), *(network.name for network in client.networks.list())])


@pytest.fixture(scope="session", params=["postgres:15", "postgres:18"])
def image(request: pytest.FixtureRequest, docker_client: DockerClient) -> str:
    """Both layouts of the data directory, where the engine has such an image."""
    return _present(docker_client, request.param)


@pytest.fixture(scope="session")
def any_image(docker_client: DockerClient) -> str:
    """One image, for what does not depend on the version."""
    return _present(docker_client, "postgres:18")


@pytest.fixture(scope="session")
def postgres_15(docker_client: DockerClient) -> str:
    """The image whose tag it has."""
    return _present(docker_client, "postgres:15")


@pytest.fixture(scope="session")
def postgres_latest(docker_client: DockerClient) -> str:
    """The image that code gets which names no version."""
    return _present(docker_client, "postgres:latest")


def _present(client: Any, reference: str) -> str:
    from docker.errors import ImageNotFound

    try:
        client.images.get(reference)
    except ImageNotFound:
        skip_or_fail(f"the engine has no image {reference}")
    return reference


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory that keeps the containers of one test apart from those of all others."""
    return tmp_path


@pytest.fixture
def clients(home: Path) -> Generator[Clients]:
    """Starts processes that hold leases, and ends those that still run."""
    with Clients(home) as started:
        yield started


@pytest.fixture(scope="session")
def docker_client(elefast_root: object) -> Generator[DockerClient]:
    """The engine of this machine; where none answers the tests are skipped, or fail with TEST_DOCKER=required."""
    if why := _no_engine():
        skip_or_fail(why)
    client = engine_client()
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def project(docker_client: DockerClient, tmp_path: Path) -> Generator[Path]:
    """The directory of a project; its containers are removed afterwards, with their volumes."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "tests").mkdir()
    try:
        yield tmp_path
    finally:
        for container in containers(docker_client, tmp_path):
            docker_client.api.remove_container(container, force=True, v=True)

"""One container from start to end: where its data are, how it is tuned, where it is reached, what it leaves."""

from __future__ import annotations

import io
import re
import socket
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from elefast.errors import ConfigurationError, ServerStartError
from elefast.providers import server_settings
from elefast.providers.docker import DockerLease
from tests.integration.docker.container_support import ask, connect, inside, lock_files, names, our_owner, provider
from tests.integration.docker.docker_support import free_port
from tests.integration.providers.provider_support import until

MOUNTS = {"postgres:15": "/var/lib/postgresql/data", "postgres:18": "/var/lib/postgresql"}
OVERRIDING = """
FROM {base}
COPY override.sql /docker-entrypoint-initdb.d/
HEALTHCHECK --interval=1s --retries=1 CMD false
ENV POSTGRES_INITDB_ARGS=--wal-segsize=4
CMD ["postgres", "-c", "work_mem=9MB"]
"""


@pytest.fixture(scope="module")
def lease(image: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[DockerLease]:
    """A container of each version, with the default tuning."""
    lease = provider(tmp_path_factory.mktemp("project"), image=image).acquire()
    yield lease
    lease.release()


@pytest.fixture(scope="module")
def overriding(any_image: str, docker_client: Any) -> Generator[str]:
    """An image that sets things by itself, and whose health check never succeeds."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (
            ("Dockerfile", OVERRIDING.format(base=any_image)),
            ("override.sql", "alter role postgres set jit = on;"),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    context.seek(0)
    tag = f"elefast-test-{our_owner()}:latest"
    docker_client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True)
    yield tag
    docker_client.images.remove(tag)


def test_the_data_are_in_memory(lease: DockerLease, image: str, docker_client: Any) -> None:
    """A tmpfs exactly where the image keeps them: nothing of the engine lies over it."""
    assert docker_client.containers.get(lease.container).attrs["Mounts"] == []
    mounts = [line.split() for line in inside(docker_client, lease, "mount").splitlines()]
    assert [words[4] for words in mounts if words[2] == MOUNTS[image]] == ["tmpfs"]
    data = ask(lease, "show data_directory")
    assert inside(docker_client, lease, "df", "--output=fstype,target", data).split()[-2:] == ["tmpfs", MOUNTS[image]]


def test_the_server_is_tuned(lease: DockerLease) -> None:
    """Every setting is in effect, in the server's own words."""
    with connect(lease) as connection:
        shown = {name: connection.execute(f"show {name}".encode()).fetchone() for name in server_settings()}
    assert {name: row[0] for name, row in shown.items() if row} == server_settings()


def test_shared_memory_has_its_size(lease: DockerLease, docker_client: Any) -> None:
    """The engine's default of 64 MB is too small for parallel queries."""
    assert inside(docker_client, lease, "df", "--output=size", "/dev/shm").split()[-1] == str(256 * 1024)


def test_only_this_machine_reaches_it(lease: DockerLease, docker_client: Any) -> None:
    """The password is no secret."""
    ports = docker_client.containers.get(lease.container).attrs["NetworkSettings"]["Ports"]
    assert ports == {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(lease.url.port)}]}


def test_the_real_server_answers(lease: DockerLease, docker_client: Any) -> None:
    """Not the one that the entrypoint uses to initialize: that has ended."""
    log = docker_client.containers.get(lease.container).logs().decode()
    assert "PostgreSQL init process complete" in log
    assert log.count("database system is ready to accept connections") == 2
    assert "Sync to disk skipped" in log


def test_the_locale_is_the_images(lease: DockerLease) -> None:
    """Another one need not exist there."""
    assert ask(lease, "select datcollate from pg_database where datname = 'postgres'") == "en_US.utf8"


def test_what_a_lease_says(lease: DockerLease, image: str) -> None:
    """Which server, which engine, why that one; no password."""
    assert (lease.provider, lease.owned, lease.ephemeral) == ("docker", True, True)
    assert lease.reason == 'provider = "docker"'
    assert re.fullmatch(
        rf"PostgreSQL {image[-2:]}\.\d+ \({image}\) in container {lease.name}, data in memory, shared, not kept; "
        r"(Docker|Podman) \S+ at \S+://\S* \(.+\)",
        lease.description,
    )
    assert "elefast@" not in repr(lease)


def test_the_password_costs_little(home: Path, any_image: str, docker_client: Any) -> None:
    """One round of hashing where the drivers take that; and the engine's users do not get to read it."""
    lease = provider(home, image=any_image, scram_iterations=1, password="keep off").acquire()
    try:
        stored = ask(lease, "select rolpassword from pg_authid where rolname = 'postgres'")
        assert stored.startswith("SCRAM-SHA-256$1:")
        assert "keep off" not in str(docker_client.containers.get(lease.container).attrs)
    finally:
        lease.release()


def test_nothing_is_left(image: str, home: Path, docker_client: Any) -> None:
    """No container, no volume, no lock; a lease may be given back twice."""
    lease = provider(home, image=image, tmpfs=False).acquire()
    (mount,) = docker_client.containers.get(lease.container).attrs["Mounts"]
    assert (mount["Type"], mount["Destination"]) == ("volume", MOUNTS[image])
    assert "data in a volume" in lease.description
    lease.release()
    lease.release()
    assert names(docker_client, home) == []
    assert mount["Name"] not in {volume.name for volume in docker_client.volumes.list()}
    with pytest.raises(psycopg.OperationalError):
        connect(lease)


def test_a_size_limits_the_memory(home: Path, any_image: str, docker_client: Any) -> None:
    """The same number inside; user and password are the project's."""
    before = lock_files()
    lease = provider(home, image=any_image, tmpfs="200m", user="app", password="a b'\"%/@:").acquire()
    try:
        assert inside(docker_client, lease, "df", "--output=size", "/var/lib/postgresql").split()[-1] == str(200 * 1024)
        assert (
            ask(
                lease,
                "select current_user || current_database() || rolsuper from pg_user, pg_roles "
                "where usename = current_user and rolname = usename",
            )
            == "apppostgrestrue"
        )
    finally:
        lease.release()
    assert lock_files() == before


def test_a_pinned_port(home: Path, any_image: str, docker_client: Any) -> None:
    """It is used; where somebody has it, the error says what to do, and no container stays behind."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(ServerStartError, match=rf"(?s)port {port} is taken.*docker\.port \(ELEFAST_HOST_PORT\)"):
            provider(home, image=any_image, port=port).acquire()
        assert names(docker_client, home) == []
    lease = provider(home, image=any_image, port=port).acquire()
    try:
        assert lease.url.port == port
        assert ask(lease, "select 1") == 1
    finally:
        lease.release()


def test_an_image_with_a_mind_of_its_own(overriding: str, home: Path, docker_client: Any) -> None:
    """Arguments of its command stay; what overrides a setting of ours is an error that names the key."""
    with pytest.raises(ConfigurationError, match=r'tuning\.jit: is "off", but the server has "on"') as caught:
        provider(home, image=overriding).acquire()
    assert len(caught.value.problems) == 1
    settings = server_settings(jit=None)
    lease = provider(home, image=overriding, settings=settings, reuse=True).acquire()
    try:
        assert (ask(lease, "show work_mem"), ask(lease, "show wal_segment_size")) == ("9MB", "4MB")
        container = docker_client.containers.get(lease.container)
        assert until(lambda: container.reload() or container.health == "unhealthy", 60)
        again = provider(home, image=overriding, settings=settings, reuse=True).acquire()
        assert again.container == lease.container  # it answers, whatever the check says
        again.release()
    finally:
        docker_client.containers.get(lease.container).remove(force=True, v=True)
        lease.release()


def test_a_host_that_is_unknown(home: Path, any_image: str, docker_client: Any) -> None:
    """Waiting would not help; the error has the key."""
    with pytest.raises(ServerStartError, match=r"host elefast\.invalid .* is unknown here(?s:.*)docker\.host"):
        provider(home, image=any_image, host="elefast.invalid", start_timeout=60).acquire()
    assert names(docker_client, home) == []


def test_a_server_that_takes_too_long(home: Path, any_image: str, docker_client: Any) -> None:
    """The error says how long, and where to look."""
    with pytest.raises(ServerStartError, match=r"does not answer at 127\.0\.0\.1:\d+ after 0 s(?s:.*)docker logs"):
        provider(home, image=any_image, start_timeout=0).acquire()
    assert names(docker_client, home) == []


def test_settings_that_are_not_the_projects(home: Path) -> None:
    """The container's port in the container, the place of the data: an error before anything starts."""
    with pytest.raises(ConfigurationError, match=r"tuning\.settings\.port"):
        provider(home, settings={"port": "5433"}).acquire()

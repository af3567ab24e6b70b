"""Engines elsewhere and of another make: behind TCP, in a context, Podman's; and none at all."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import elefast
from elefast.errors import ServerUnavailableError
from elefast.providers.docker import DockerLease, DockerProvider, probe
from elefast.providers.docker.address import find
from elefast.providers.docker.pull import ensure_image
from tests.integration.docker.docker_support import containers, show, skip_or_fail

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture
def engine_socket(docker_client: DockerClient) -> str:
    """The socket of the real engine."""
    path = find(os.environ).path
    if not path:
        skip_or_fail("the engine of these tests is behind no socket of this machine")
    return path


@contextmanager
def lease(project: Path, env: Mapping[str, str], **arguments: str) -> Generator[DockerLease]:
    """A container that goes at the end, on the engine that `env` names."""
    provider = DockerProvider(
        image="postgres:15",
        password=secrets.token_hex(),  # it may be reached from the network for a moment
        reuse=False,
        project=project,
        env={"HOME": str(project), **env},
        **arguments,  # type: ignore[arg-type]
    )
    held = provider.acquire()
    try:
        yield held
    finally:
        held.release()


@contextmanager
def behind_tcp(host: str, path: str) -> Generator[int]:
    """A port that leads to a unix socket, for as many connections as one likes."""
    listener = socket.create_server((host, 0))
    channels: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:  # closed
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(path)
            channels.extend((near, far))
            for one, other in ((near, far), (far, near)):
                thread = threading.Thread(target=copy, args=(one, other))
                thread.start()
                threads.append(thread)

    def copy(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := one.recv(65536):
                other.sendall(part)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for channel in channels:
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for channel in channels:
            channel.close()


# -- elsewhere ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("postgres_15")
def test_an_engine_of_another_host(docker_client: DockerClient, project: Path, engine_socket: str) -> None:
    """The real engine behind a port of its own bridge: it stands in for another machine, whose loopback is not ours."""
    bridge = address_of_bridge(docker_client)
    with behind_tcp(bridge, engine_socket) as port, lease(project, {"DOCKER_HOST": f"tcp://{bridge}:{port}"}) as held:
        assert held.url.host == bridge
        assert show(held.url, "listen_addresses") == ["*"]
        assert f"at tcp://{bridge}:{port} (DOCKER_HOST), reached at {bridge}" in held.description
        (container,) = containers(docker_client, project)
        published = docker_client.api.inspect_container(container)["NetworkSettings"]["Ports"]["5432/tcp"]
        assert {address["HostIp"] for address in published} <= {"0.0.0.0", "::"}
    assert containers(docker_client, project) == []


def address_of_bridge(client: DockerClient) -> str:
    """An address of this machine that is not the loopback's, and that containers have anyway."""
    (layout, *_) = client.api.inspect_network("bridge")["IPAM"]["Config"]
    address = str(layout.get("Gateway") or next(ipaddress.ip_network(layout["Subnet"]).hosts()))
    try:
        socket.create_server((address, 0)).close()
    except OSError:
        pytest.skip(f"the engine's bridge, {address}, is not on this machine")
    return address


@pytest.mark.usefixtures("postgres_15")
def test_a_context_and_an_engine_behind_the_loopback(
    docker_client: DockerClient, project: Path, engine_socket: str
) -> None:
    """What `docker context` makes names the engine; a loopback address stands in for a tunnel to another machine."""
    if not shutil.which("docker"):
        skip_or_fail("no docker command to make a context with")
    with behind_tcp("127.0.0.1", engine_socket) as port:
        config = project / "config"
        env = {**os.environ, "DOCKER_CONFIG": str(config)}
        env.pop("DOCKER_HOST", None)
        for words in (
            ("context", "create", "elefast-test", "--docker", f"host=tcp://127.0.0.1:{port}"),
            ("context", "use", "elefast-test"),
        ):
            subprocess.run(["docker", *words], env=env, check=True, capture_output=True)
        assert probe({"DOCKER_CONFIG": str(config)}) == ""
        with lease(project, {"DOCKER_CONFIG": str(config)}) as held:
            assert held.url.host == "127.0.0.1"
            assert show(held.url, "listen_addresses") == ["*"]
            assert f'tcp://127.0.0.1:{port} (context "elefast-test" of {config / "config.json"})' in held.description
            (container,) = containers(docker_client, project)
            published = docker_client.api.inspect_container(container)["NetworkSettings"]["Ports"]["5432/tcp"]
            assert [address["HostIp"] for address in published] == ["127.0.0.1"]
        refused = probe({"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": "elefast-none"})
    assert 'context "elefast-none" of DOCKER_CONTEXT does not exist' in refused
    assert containers(docker_client, project) == []


INSIDE = """
import secrets, sys
import psycopg
from pathlib import Path
from elefast.providers.docker import DockerProvider
provider = DockerProvider(
    image="postgres:15", password=secrets.token_hex(), reuse=False, project=Path(sys.argv[1])
)
lease = provider.acquire()
url = lease.url.set(drivername="postgresql").render_as_string(hide_password=False)
psycopg.connect(url, connect_timeout=10).close()
print(lease.url.host, lease.description, sep="\\n")
lease.release()
"""


def test_inside_a_container(docker_client: DockerClient, postgres_15: str, project: Path, engine_socket: str) -> None:
    """As in a dev container that has the engine's socket: this Python runs in one, and so in a network of its own."""
    places = {sys.prefix, sys.base_prefix, str(Path(elefast.__file__).parents[1])}
    if any(place.startswith(("/usr", "/lib")) for place in places):
        pytest.skip("this Python is the system's, which cannot be laid over the container's")
    python = sys.executable

    def run(program: str, *words: str) -> tuple[int, str]:
        container = docker_client.containers.create(
            postgres_15,
            [python, "-c", program, *words],
            entrypoint=[],
            volumes={
                **{place: {"bind": place, "mode": "ro"} for place in places},
                engine_socket: {"bind": "/var/run/docker.sock", "mode": "rw"},
            },
        )
        try:
            container.start()
            status = int(container.wait(timeout=180)["StatusCode"])
            return status, container.logs().decode()
        finally:
            container.remove(force=True, v=True)

    status, said = run("import docker, elefast, psycopg, sqlalchemy")
    if status:
        pytest.skip(f"this Python does not run in the image: {said.strip().splitlines()[-1]}")
    status, said = run(INSIDE, str(project))
    assert status == 0, said
    host, description = said.splitlines()
    assert not host.startswith("127.")
    assert f"reached at {host} (the engine's side of this container's network)" in description
    assert containers(docker_client, project) == []


# -- of another make ------------------------------------------------------------------------------------------------


# Nothing of it is shared with the Podman of this machine's users: `tmp_dir` decides whether it resets locks, which are
# in one segment for all otherwise. In a container itself it may neither raise limits nor use systemd.
PODMAN = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
static_dir = "{settings}/static"
tmp_dir = "{settings}/tmp"
volume_path = "{settings}/volumes"
[network]
network_config_dir = "{settings}/networks"
default_network = "{network}"
"""


@pytest.fixture
def podman(docker_client: DockerClient, postgres_15: str, tmp_path: Path) -> Generator[str]:
    """The socket of `podman system service`, which has the image `postgres:15`; everything of it is gone afterwards."""
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    settings = tmp_path / "podman"
    (settings / "networks").mkdir(parents=True)
    (settings / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{settings}/run"\ngraphroot = "{settings}/data"\n'
    )
    network = f"elefast-{secrets.token_hex(4)}"
    env = {
        **os.environ,
        "CONTAINERS_CONF": str(settings / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(settings / "storage.conf"),
    }
    made = None
    for default in ("podman", network):  # what is to be the default may not be there yet while it is made
        (settings / "containers.conf").write_text(PODMAN.format(settings=settings, network=default))
        made = made or subprocess.run(["podman", "network", "create", network], env=env, capture_output=True, text=True)
    if made and made.returncode:
        pytest.skip(f"podman does not work here: {made.stderr.strip().splitlines()[-1]}")
    path = settings / "podman.sock"
    service = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{path}"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with subprocess.Popen(["podman", "load"], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as load:
            assert load.stdin is not None
            for part in docker_client.api.get_image(postgres_15):
                load.stdin.write(part)
        assert load.returncode == 0
        deadline = time.monotonic() + 60
        while probe({"DOCKER_HOST": f"unix://{path}"}):
            assert service.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"unix://{path}"
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
        subprocess.run(["podman", "rm", "-f", "-a", "-t", "0"], env=env, capture_output=True)
        subprocess.run(["podman", "rmi", "-f", "-a"], env=env, capture_output=True)
        (settings / "containers.conf").write_text(PODMAN.format(settings=settings, network="podman"))
        left = subprocess.run(["podman", "network", "rm", network], env=env, capture_output=True, text=True)
        shutil.rmtree(f"/var/lib/cni/networks/{network}", ignore_errors=True)  # Debian 12's Podman forgets it
        subprocess.run(["umount", settings / "data" / "overlay"], capture_output=True)
        shutil.rmtree(settings)
        assert left.returncode == 0, left.stderr


def test_podman(podman: str, project: Path) -> None:
    """The real one, as Debian has it: it stands in for the newer ones of Fedora and of Podman Desktop."""
    import docker

    client = docker.DockerClient(base_url=podman)
    try:
        with lease(project, {"DOCKER_HOST": podman}) as held:
            assert show(held.url, "listen_addresses") == ["*"]
            assert "; Podman " in held.description
            with lease(project, {"DOCKER_HOST": podman}) as second:
                assert second.name != held.name  # another password, another container
                assert len(containers(client, project)) == 2
            assert len(containers(client, project)) == 1
        assert containers(client, project) == []
        assert client.volumes.list() == []
        with pytest.raises(
            ServerUnavailableError, match=r"image 127\.0\.0\.1:1/x:1 cannot be pulled\n.*connection refused"
        ):
            ensure_image(client, "127.0.0.1:1/x:1", waits=())  # it says so in its stream
    finally:
        client.close()


# -- none at all ----------------------------------------------------------------------------------------------------

REFUSED = """
import os, sys, time
import docker, requests
from elefast.errors import ElefastError
from elefast.providers.docker import DockerProvider, probe
probe()  # so that everything is imported that it takes
if len(sys.argv) > 1:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
began = time.monotonic()
print(probe().splitlines()[0])
assert time.monotonic() - began < 10
try:
    DockerProvider(reuse=False).acquire()
except ElefastError as error:
    print(error)
"""


def refused(*arguments: str, **env: str) -> list[str]:
    """The lines that people see: what `auto` says, then the error."""
    run = subprocess.run(
        [sys.executable, "-c", REFUSED, *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_no_engine(tmp_path: Path) -> None:
    """No socket, and a socket that nobody listens on."""
    missing = tmp_path / "missing.sock"
    why, first, remedy = refused(DOCKER_HOST=f"unix://{missing}")
    assert first == why == f"no Docker engine at unix://{missing} (DOCKER_HOST): No such file or directory"
    assert remedy.startswith("start it (Docker Desktop,")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    why, first, _ = refused(DOCKER_HOST=f"unix://{tmp_path / 'dead.sock'}")
    assert first == why
    assert first.endswith("Connection refused")


def test_no_permission(engine_socket: str) -> None:
    """As somebody who is not in the group `docker`: the real socket of the real engine."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    if os.stat(engine_socket).st_mode & 0o006:
        pytest.skip(f"everybody may use {engine_socket}")
    why, first, remedy = refused("nobody", DOCKER_HOST=f"unix://{engine_socket}")
    assert first == why == f"no permission on the Docker socket unix://{engine_socket} (DOCKER_HOST)"
    assert remedy.startswith("join the group that may use it (`sudo usermod -aG docker $USER`")

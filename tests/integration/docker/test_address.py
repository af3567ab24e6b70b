"""Which engine is taken, why, and where its ports are reached. Nothing here needs an engine."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from elefast.cli import main
from elefast.errors import MissingDependencyError, ServerUnavailableError
from elefast.providers.docker import address as address_module
from elefast.providers.docker import address as docker_address
from elefast.providers.docker import probe
from elefast.providers.docker.address import Address, find, silence
from elefast.providers.docker.container import owner
from elefast.providers.docker.engine import DockerEngine, connect, engine_name, reached_at
from tests.integration.docker.container_support import provider


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine without any engine, but for what the test adds."""
    monkeypatch.setattr(address_module, "LOCAL_ENGINE", str(tmp_path / "docker.sock"))
    monkeypatch.setattr(address_module, "LOCAL_PODMAN", str(tmp_path / "podman.sock"))
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


def _context(home: Path, name: str, host: str, *, tls: bool = False) -> None:
    """What `docker context create` writes."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / identity
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    if tls:
        (home / ".docker" / "contexts" / "tls" / identity / "docker").mkdir(parents=True)


def _silent(path: Path) -> socket.socket:
    """Stands in for an engine that hangs: it takes connections, and says nothing."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


def test_docker_host_comes_first(env: dict[str, str], tmp_path: Path) -> None:
    """As with the Docker CLI: before the context, with its certificates."""
    _context(tmp_path, "other", "tcp://elsewhere:2375")
    env |= {"DOCKER_HOST": "tcp://docker:2376", "DOCKER_CONTEXT": "other"}
    assert find(env) == Address("tcp://docker:2376", "DOCKER_HOST", verify=False)
    env |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    assert find(env) == Address("tcp://docker:2376", "DOCKER_HOST", "/certs", verify=True)
    del env["DOCKER_CERT_PATH"]
    assert find(env).certificates == str(tmp_path / ".docker")
    assert find({**env, "DOCKER_HOST": "docker:2375"}).url == "tcp://docker:2375"


def test_contexts(env: dict[str, str], tmp_path: Path) -> None:
    """The one of the CLI's configuration, or of DOCKER_CONTEXT; with the certificates that belong to it."""
    _context(tmp_path, "colima", "unix:///colima.sock")
    _context(tmp_path, "remote", "tcp://remote:2376", tls=True)
    configuration = tmp_path / ".docker" / "config.json"
    configuration.write_text('{"currentContext": "colima"}')
    assert find(env) == Address("unix:///colima.sock", f'context "colima" of {configuration}')
    env["DOCKER_CONTEXT"] = "remote"
    found = find(env)
    assert (found.url, found.why) == ("tcp://remote:2376", 'context "remote" of DOCKER_CONTEXT')
    assert found.verify
    assert found.certificates.startswith(str(tmp_path / ".docker" / "contexts" / "tls"))
    env["DOCKER_CONTEXT"] = "gone"
    with pytest.raises(ServerUnavailableError, match=r'(?s)context "gone" .*does not exist\n.*docker context ls'):
        find(env)


@pytest.mark.parametrize(
    "path",
    ["docker.sock", "run/docker.sock", ".docker/run/docker.sock", "run/podman/podman.sock", "podman.sock"],
)
def test_sockets_in_the_usual_places(env: dict[str, str], tmp_path: Path, path: str) -> None:
    """Docker's, that of Docker without root, of Docker Desktop, and Podman's; the default context means those."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    found = find({**env, "DOCKER_CONTEXT": "default"})
    assert found.url == f"unix://{tmp_path / path}"
    assert found.why == ("default socket" if path == "docker.sock" else "the first socket found")


def test_no_engine_at_all(env: dict[str, str], tmp_path: Path) -> None:
    """`auto` says where it looked, and what to do."""
    pytest.importorskip("docker")
    why = probe(env)
    assert why == str(_failure(env))
    first, remedy = why.splitlines()
    assert first.startswith(f"no Docker engine: DOCKER_HOST is not set, and there is no socket at {tmp_path}")
    assert 'provider = "local"' in remedy


def _failure(env: Mapping[str, str]) -> ServerUnavailableError:
    with pytest.raises(ServerUnavailableError) as caught:
        connect(env)
    return caught.value


def test_an_engine_that_hangs_is_passed_over(env: dict[str, str], tmp_path: Path) -> None:
    """It takes the connection, so that a ping would wait for ever."""
    pytest.importorskip("docker")
    with _silent(tmp_path / "docker.sock"):
        assert probe(env).splitlines()[0] == (
            f"the Docker engine at unix://{tmp_path}/docker.sock (default socket) does not answer within 0.7 s"
        )
        with pytest.raises(ServerUnavailableError, match=r"does not answer within 0\.2 s"):
            provider(tmp_path, env=env, engine_timeout=0.2).acquire()


def test_looking_up_a_host_takes_no_time_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs knows no time-out."""
    end = threading.Event()

    def hang(*_: object, **__: object) -> None:
        end.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        assert "does not answer within 0.05 s" in silence(Address("tcp://docker:2375", "DOCKER_HOST"), 0.05)
    finally:
        end.set()


def test_something_else_that_listens(env: dict[str, str], tmp_path: Path) -> None:
    """It is not taken for an engine."""
    with _silent(tmp_path / "docker.sock") as listening:

        def answer() -> None:
            channel, _ = listening.accept()
            with channel:
                channel.recv(1)
                channel.sendall(b"220 mail ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        why = silence(find(env), 10)
        thread.join()
    assert why.startswith(("what listens at", "no Docker engine"))


class _Stalling(BaseHTTPRequestHandler):
    """Stands in for an engine that answers at first, and hangs when there is something to do."""

    end: threading.Event

    def do_GET(self) -> None:
        if not self.path.endswith(("/_ping", "/version")):
            self.end.wait(60)
            return
        body = json.dumps({"ApiVersion": "1.41", "Version": "1.2.3"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
        pass


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[Path]:
    """The socket of such an engine."""
    path = tmp_path / "docker.sock"
    _Stalling.end = threading.Event()
    server = ThreadingUnixStreamServer(str(path), _Stalling)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield path
    _Stalling.end.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_engine_that_stops_answering(env: dict[str, str], tmp_path: Path, stalling: Path) -> None:
    """The error says what it did not do, and for how long."""
    pytest.importorskip("docker")
    with pytest.raises(
        ServerUnavailableError, match=r"(?s)stopped answering: nothing for 0\.5 s while .*\n.*docker ps"
    ):
        connect(env, contact_timeout=30, answer_timeout=0.5).containers({})


def test_down_says_that_no_engine_answers(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Containers may have been left there; without any trace of an engine there are none."""
    pytest.importorskip("docker")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", env["XDG_RUNTIME_DIR"])
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert main(["down"]) == 0
    assert "containers were not looked for" not in capsys.readouterr().out
    _silent(tmp_path / "docker.sock").close()
    assert main(["down"]) == 0
    out = capsys.readouterr().out
    assert f"containers were not looked for: no Docker engine at unix://{tmp_path}/docker.sock" in out
    assert "no server was left running" not in out


def test_a_client_that_is_of_no_use_is_closed(
    env: dict[str, str], stalling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each attempt would leave a connection open."""
    docker = pytest.importorskip("docker")
    closed: list[Any] = []
    close = docker.DockerClient.close

    def closing(self: Any) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(docker.DockerClient, "close", closing)

    def fail(*_: object) -> None:
        raise ServerUnavailableError("it has gone")

    monkeypatch.setattr(DockerEngine, "locate", fail)
    with pytest.raises(ServerUnavailableError, match="it has gone"):
        connect(env, contact_timeout=30)
    assert len(closed) == 1


def test_without_the_extra(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The install line, from `auto` and from "docker"."""
    monkeypatch.setitem(sys.modules, "docker", None)
    assert probe(env) == 'the docker extra is not installed: pip install "elefast[docker]"'
    with pytest.raises(MissingDependencyError, match=r'pip install "elefast\[docker\]"'):
        connect(env)


@pytest.mark.parametrize(
    ("url", "env", "host", "expected"),
    [
        ("unix:///x", {}, "", ("127.0.0.1", "")),
        ("tcp://localhost:1", {}, "", ("127.0.0.1", "")),
        ("tcp://127.0.0.1:1", {}, "", ("127.0.0.1", "the host of why")),
        ("tcp://docker:2376", {}, "", ("docker", "the host of why")),
        ("ssh://me@far:22", {}, "", ("far", "the host of why")),
        ("ssh://me@far", {"TESTCONTAINERS_HOST_OVERRIDE": "near"}, "", ("near", "TESTCONTAINERS_HOST_OVERRIDE")),
        ("unix:///x", {"TESTCONTAINERS_HOST_OVERRIDE": "near"}, "mine", ("mine", "docker.host")),
    ],
)
def test_where_ports_are_reached(
    url: str, env: Mapping[str, str], host: str, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the project says, then the variable, then the engine's own host."""
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert reached_at(None, Address(url, "why"), env, host) == expected


@pytest.mark.parametrize("known", [True, False])
def test_inside_a_container(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """Stands in for one with the engine's socket in it. With an engine of its own, ports are just here."""
    errors = pytest.importorskip("docker.errors")
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/.dockerenv")

    class Client:
        """As much of the SDK as is asked."""

        api: Any

        def inspect_container(self, name: str) -> dict[str, Any]:
            if not known:
                raise errors.NotFound("no such container")
            return {"NetworkSettings": {"Networks": {"bridge": {"Gateway": "172.17.0.1"}}}}

    Client.api = Client()
    host, why = reached_at(Client, Address("unix:///x", "why"), {}, "")
    assert (host, bool(why)) == (("172.17.0.1", True) if known else ("127.0.0.1", False))


def _mounts(root: str) -> str:
    """What an engine mounts in a container, after what others of its containers have mounted on that machine."""
    other = f"40 29 0:50 / {root}/{'b' * 64}/mounts/shm rw - tmpfs shm rw\n"
    return f"{other}50 49 8:1 {root}/{'a' * 64}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize("root", ["/var/lib/docker/containers", "/run/containers/overlay-containers"])
def test_containers_with_one_host_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    """Their locks are not the same, though the directories have the same name; outside nothing is looked at."""
    mark, mounts = tmp_path / ".dockerenv", tmp_path / "mountinfo"
    monkeypatch.setattr(docker_address, "MARKS", (str(mark),))
    monkeypatch.setattr(docker_address, "MOUNTS", str(mounts))
    mounts.write_text(_mounts(root))
    outside = owner("/locks")
    assert docker_address.sandbox() == ""
    mark.touch()
    assert docker_address.sandbox() == "a" * 64
    first = owner("/locks")
    assert first == owner("/locks")
    mounts.write_text(_mounts(root).replace("a" * 64, "c" * 64))
    assert len({outside, first, owner("/locks")}) == 3
    mounts.write_text("29 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    assert docker_address.sandbox() == str(os.stat("/dev/shm").st_dev)


@pytest.mark.parametrize(
    ("host", "bind"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "::1"), ("docker", ""), ("172.17.0.1", "")],
)
def test_published_no_wider_than_needed(host: str, bind: str) -> None:
    """On all addresses only where this machine's own would not be reached."""
    engine = DockerEngine(None, Address("unix:///x", "default socket"), name="Docker 1", host=host, why="docker.host")
    assert engine.bind == bind
    assert str(engine) == f"Docker 1 at unix:///x (default socket), reached at {host} (docker.host)"


def test_names_of_engines() -> None:
    """Podman calls itself Docker in the same field."""
    assert engine_name({"Version": "28.1.0"}) == "Docker 28.1.0"
    podman = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine", "Version": "4.3.1"}]}
    assert engine_name(podman) == "Podman 4.3.1"

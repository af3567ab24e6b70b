"""Whatever state a container is found in, the next run has a server; or an error that says what to do."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from elefast.cli import main
from elefast.errors import RefusedError, ServerStartError
from elefast.providers import server_settings
from elefast.providers.docker import DockerLease
from elefast.providers.docker.lifecycle import ContainerLifecycle
from tests.integration.docker.container_support import Clients, ask, connect, names, provider
from tests.integration.docker.docker_support import free_port
from tests.integration.providers.provider_support import until


@pytest.fixture(autouse=True)
def _nothing_is_left(home: Path, docker_client: Any) -> Any:
    """The containers of a test are for reuse, so they have to be ended."""
    yield
    for name in names(docker_client, home):
        docker_client.containers.get(name).remove(force=True, v=True)


def _left(home: Path, image: str, **more: Any) -> DockerLease:
    """A container that an earlier run has left running."""
    lease = provider(home, image=image, reuse=True, **more).acquire()
    with connect(lease) as connection:
        connection.execute("create database kept")
    lease.release()
    return lease


def _again(home: Path, image: str, **more: Any) -> DockerLease:
    lease = provider(home, image=image, reuse=True, **more).acquire()
    lease.release()
    return lease


def _has_kept(lease: DockerLease) -> bool:
    return bool(ask(lease, "select exists (select from pg_database where datname = 'kept')"))


def test_created_but_never_started(home: Path, clients: Clients, any_image: str, docker_client: Any) -> None:
    """Whoever created it was killed before it could start it."""
    (client,) = clients.start(image=any_image, reuse=True, die_before_start=True)
    assert client.answer == {}
    (name,) = names(docker_client, home)
    assert docker_client.containers.get(name).status == "created"
    lease = _again(home, any_image)
    assert lease.name == name
    assert ask(lease, "select 1") == 1


def test_paused(home: Path, any_image: str, docker_client: Any) -> None:
    """It goes on; connecting alone would hang for minutes."""
    left = _left(home, any_image)
    docker_client.containers.get(left.container).pause()
    lease = _again(home, any_image)
    assert lease.container == left.container
    assert lease.notes == (f"{left.name} was paused: goes on",)
    assert _has_kept(lease)


def test_stopped_with_its_data_in_memory(home: Path, image: str, docker_client: Any) -> None:
    """They are gone, so there is a new one, with whatever port that gets."""
    left = _left(home, image)
    docker_client.containers.get(left.container).stop(timeout=20)
    lease = _again(home, image)
    assert lease.container != left.container
    assert lease.notes == (f"{left.name} was exited: removed and made anew",)
    assert not _has_kept(lease)


def test_stopped_with_its_data_in_a_volume(home: Path, image: str, docker_client: Any) -> None:
    """It is started again; killed, it is not trusted: nothing was synced to the disk."""
    left = _left(home, image, tmpfs=False)
    docker_client.containers.get(left.container).stop(timeout=20)
    lease = _again(home, image, tmpfs=False)
    assert lease.container == left.container
    assert lease.notes == (f"{left.name} was exited: started again",)
    assert _has_kept(lease)
    docker_client.containers.get(left.container).kill()
    lease = _again(home, image, tmpfs=False)
    assert lease.container != left.container
    assert not _has_kept(lease)


def test_a_port_that_was_taken_meanwhile(home: Path, any_image: str, docker_client: Any) -> None:
    """The engine chooses another one, where none is pinned."""
    left = _left(home, any_image, tmpfs=False)
    docker_client.containers.get(left.container).stop(timeout=20)
    try:
        taken = socket.create_server(("127.0.0.1", left.url.port))
    except OSError:  # somebody else was quicker to take it
        pass
    else:
        with taken:
            lease = _again(home, any_image, tmpfs=False)
            assert lease.url.port != left.url.port
    lease = _again(home, any_image, tmpfs=False)
    assert lease.container == left.container
    assert _has_kept(lease)


def test_a_pinned_port_that_was_taken_meanwhile(home: Path, any_image: str, docker_client: Any) -> None:
    """An error with the remedy; the container stays, and when the port is free the next run has a server there."""
    port = free_port()
    left = _left(home, any_image, tmpfs=False, port=port)
    docker_client.containers.get(left.container).stop(timeout=20)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ServerStartError, match=rf"port {port} is taken"):
        provider(home, image=any_image, reuse=True, tmpfs=False, port=port).acquire()
    assert names(docker_client, home) == [left.name]
    lease = _again(home, any_image, tmpfs=False, port=port)
    assert lease.url.port == port
    assert ask(lease, "select 1") == 1


def test_in_a_loop_of_restarts(home: Path, any_image: str, docker_client: Any) -> None:
    """Somebody gave it a restart policy, and its server dies each time."""
    left = _left(home, any_image, tmpfs=False)
    container = docker_client.containers.get(left.container)
    data = ask(left, "show data_directory")
    assert container.exec_run(["sh", "-c", f"echo nonsense = 1 >> {data}/postgresql.conf"]).exit_code == 0
    container.update(restart_policy={"Name": "always"})
    container.exec_run(["sh", "-c", "kill -QUIT 1"])

    def restarting() -> bool:
        container.reload()
        return bool(container.attrs["RestartCount"])

    assert until(restarting, 60)
    lease = _again(home, any_image, tmpfs=False)
    assert lease.container != left.container
    assert ask(lease, "select 1") == 1


@pytest.mark.parametrize("status", ["removing", "dead"])
def test_states_that_only_a_broken_engine_has(
    home: Path, any_image: str, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """Stands in for an engine that is removing a container for a while, or could not. The first is waited for."""
    looks: list[str] = []
    removed: list[dict[str, bool]] = []

    class Stuck:
        """What the SDK says about such a container."""

        name, id, status, attrs = "stuck", "0", "", {"State": {"ExitCode": 0}}

        def remove(self, **how: bool) -> None:
            removed.append(how)

    find: Callable[[ContainerLifecycle], Any] = ContainerLifecycle._find

    def stuck_at_first(self: ContainerLifecycle) -> Any:
        looks.append(status)
        if len(looks) > 2 or removed:
            return find(self)
        stuck = Stuck()
        stuck.status = status
        return stuck

    with monkeypatch.context() as patch:
        patch.setattr(ContainerLifecycle, "_find", stuck_at_first)
        lease = provider(home, image=any_image).acquire()
    try:
        assert ask(lease, "select 1") == 1
        assert removed == ([{"force": True, "v": True}] if status == "dead" else [])
        assert len(looks) == (2 if status == "dead" else 3)
    finally:
        lease.release()


def test_a_foreign_container_with_our_name(home: Path, any_image: str, docker_client: Any) -> None:
    """It is refused with the remedy, and left as it is."""
    name = f"elefast-test-{secrets.token_hex(4)}"
    foreign = docker_client.containers.create(any_image, name=name, command=["sleep", "60"])
    try:
        with pytest.raises(RefusedError, match=rf"(?s){name}.*not elefast's.*docker\.name.*docker rm -f -v {name}"):
            provider(home, image=any_image, name=name).acquire()
        foreign.reload()
        assert foreign.status == "created"
        main(["down"])
        foreign.reload()
    finally:
        foreign.remove(force=True, v=True)


def test_a_changed_password_is_said_at_once(home: Path, any_image: str) -> None:
    """Waiting would not help; the container stays, for somebody may want what is in it."""
    left = _left(home, any_image)
    with connect(left) as connection:
        connection.execute("alter role postgres password 'another'")
    # After the time-out it would be an error about time.
    with pytest.raises(ServerStartError, match=r"(?s)does not let us in.*authentication failed.*elefast down"):
        provider(home, image=any_image, reuse=True, start_timeout=60).acquire()
    url = left.url.set(drivername="postgresql", password="another").render_as_string(hide_password=False)
    psycopg.connect(url).close()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tmpfs": "30m"}, 'No space left on device.*docker.tmpfs = "30m" is too small'),
        ({"shm_size": "1m"}, 'No space left on device.*docker.shm_size = "1m" is too small'),
        ({"settings": {"nonsense": "1"}}, 'exit code 1.*unrecognized configuration parameter "nonsense"'),
    ],
    ids=["tmpfs", "shm", "setting"],
)
def test_dying_while_it_starts(
    home: Path, any_image: str, docker_client: Any, more: dict[str, Any], words: str
) -> None:
    """The end of its log is in the error, and what to change; it is removed, also where it is for reuse."""
    with pytest.raises(ServerStartError, match=f"(?s){words}"):
        provider(home, image=any_image, reuse=True, **more).acquire()
    assert names(docker_client, home) == []


def test_out_of_memory(home: Path, any_image: str, docker_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends a server whose container may not have the memory that it takes."""
    from elefast.providers.docker.container import ContainerSpec

    engine = docker_client.info()
    if not (engine["MemoryLimit"] and engine["SwapLimit"]):
        pytest.skip("the engine cannot limit a container's memory and swap")
    arguments = ContainerSpec.arguments
    monkeypatch.setattr(
        ContainerSpec, "arguments", lambda self: {**arguments(self), "mem_limit": "24m", "memswap_limit": "24m"}
    )
    with pytest.raises(ServerStartError, match=r"(?s)the end of its log.*ran out of memory.*shared_buffers"):
        provider(home, image=any_image, settings=server_settings(shared_buffers="64MB")).acquire().release()
    assert names(docker_client, home) == []


def test_a_port_that_the_engine_chose_is_taken(home: Path, any_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a program that was quicker to listen there: the engine chooses again."""
    from docker.errors import APIError
    from docker.models.containers import Container

    start = Container.start
    times = [2]
    refused: list[str] = []

    def taken(self: Any) -> None:
        if len(refused) < times[0]:
            refused.append(self.id)
            raise APIError("500", explanation="driver failed: port is already allocated")
        start(self)

    monkeypatch.setattr(Container, "start", taken)
    lease = provider(home, image=any_image).acquire()
    lease.release()
    assert refused == [lease.container] * 2
    times[0] = 100
    with pytest.raises(ServerStartError, match=r"(?s)the port that the engine chose is taken.*already allocated"):
        provider(home, image=any_image).acquire()
    assert len(refused) == 5

"""Servers of other containers on this machine: never signalled, never shared where they cannot be reached."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elefast.providers.files import directories
from elefast.providers.files.directories import places_for
from elefast.providers.files.locks import is_held
from elefast.providers.local import cleanup, processes, running_servers, stop_held, supervisor_client
from elefast.providers.local.account import candidates
from elefast.providers.local.cluster import SERVING
from elefast.providers.local.server import Server
from tests.integration.providers.conftest import bin_dir, root
from tests.integration.providers.provider_support import (
    ask,
    postmaster_pid,
    processes_below,
    provider,
    supervisor_pid,
    until,
)
from tests.robustness.hosts.containers import Container, refused

__all__ = ["bin_dir", "root"]

OWN_PROCESSES = ("--pid", "--mount-proc")
PROC_OF_THE_HOST = ("--pid",)


@pytest.fixture(autouse=True)
def permitted() -> None:
    """Namespaces, where they may be made."""
    if why := refused("--pid", "--net"):
        if os.environ.get("TEST_HOSTS") == "required":
            pytest.fail(why)
        pytest.skip(why)


@pytest.fixture
def orphan(root: Path, bin_dir: str) -> Iterator[Callable[[Path], Server]]:
    """Starts a server on a cluster, with no supervisor that would have its lock."""
    started: list[Server] = []

    def begin(cluster: Path) -> Server:
        server = Server(
            binaries=bin_dir,
            data=str(cluster / "data"),
            socket="",
            log=str(root / "orphan.log"),
            account=candidates("")[0],
            settings={},
            serving=str(cluster / SERVING),
        )
        started.append(server)
        server.start(port=0, timeout=60)
        return server

    yield begin
    for server in started:
        server.stop(orderly=False)


def _stopped(root: Path, bin_dir: str, **more: object) -> Path:
    """A cluster that no supervisor has and no server is on."""
    lease = provider(root, bin_dir, reuse=True, **more).acquire()
    lease.release()
    assert until(lambda: not processes_below(root))
    return Path(lease.data_dir).parent


def test_the_host_does_not_stop_the_server_of_a_container(root: Path, bin_dir: str) -> None:
    """The host sees its processes, and their data directory has the same path and the same user."""
    with Container(OWN_PROCESSES, [str(root)], root=root, reuse=True, bin_dir=bin_dir) as container:
        theirs = container.ask("acquire")
        since = container.ask("ask")
        lease = provider(root, bin_dir, reuse=True).acquire()
        assert lease.data_dir == theirs["data"]
        assert lease.notes == ()
        lease.release()
        cleanup.sweep(places_for(root), "none")
        assert until(lambda: not running_servers(root))
        assert container.ask("ask") == since


def test_nor_when_it_has_an_orphan_of_its_own_on_the_same_path(
    root: Path, bin_dir: str, orphan: Callable[[Path], Server]
) -> None:
    """That one is stopped, and that one alone."""
    cluster = _stopped(root, bin_dir)
    with Container(OWN_PROCESSES, [str(root)], root=root, reuse=True, bin_dir=bin_dir) as container:
        theirs = container.ask("acquire")
        since = container.ask("ask")
        assert theirs["data"] == str(cluster / "data")
        left = orphan(cluster)
        lease = provider(root, bin_dir, reuse=True).acquire()
        assert "stopped a server that had no supervisor" in lease.notes[0]
        assert left.process is not None
        left.process.wait(5)
        lease.release()
        assert container.ask("ask") == since


@pytest.mark.parametrize("namespaces", [OWN_PROCESSES, PROC_OF_THE_HOST], ids=["own-proc", "proc-of-the-host"])
def test_a_container_does_not_stop_the_server_of_the_host(
    root: Path, bin_dir: str, namespaces: tuple[str, ...]
) -> None:
    """Also where it sees the host's processes, whose numbers mean others to it."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    before = ask(lease, "select pg_postmaster_start_time()::text")
    with Container(namespaces, root=root, reuse=True, bin_dir=bin_dir) as looking:
        assert looking.ask(f"servers {lease.data_dir}") == []
    with Container(namespaces, [str(root)], root=root, reuse=True, bin_dir=bin_dir) as container:
        theirs = container.ask("acquire")
        assert theirs == {"data": lease.data_dir, "notes": []}
        container.ask("release")
    assert ask(lease, "select pg_postmaster_start_time()::text") == before
    lease.release()


def test_containers_with_one_memory_and_two_networks_have_a_server_each(root: Path, bin_dir: str) -> None:
    """As with `docker run --ipc=host`: the port of the one leads nowhere in the other."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    lease.hold()
    with Container((*OWN_PROCESSES, "--net"), root=root, reuse=True, bin_dir=bin_dir) as container:
        theirs = container.ask("acquire")
        assert theirs["data"] != lease.data_dir
        assert container.ask("ask") != ask(lease, "select pg_postmaster_start_time()::text")
        assert sorted(container.ask("running")) == [False, True]
        again = provider(root, bin_dir, reuse=True).acquire()
        assert again.data_dir == lease.data_dir
        again.release()
        (Path(theirs["data"]).parent.parent / "held").touch()
        assert not stop_held(Path(theirs["data"]).parent.parent.name, root=root)
        assert container.ask("ask")
        (Path(theirs["data"]).parent.parent / "held").unlink()
        container.ask("release")
        assert until(lambda: len(running_servers(root)) == 1)
    lease.release()
    assert len(stop_held(root=root)) == 1


def test_containers_with_one_disk_and_two_memories_have_a_server_each(root: Path, bin_dir: str) -> None:
    """As with a cache directory that several jobs mount, where each has a small ``/dev/shm``."""
    (root / "memory").mkdir()
    (root / "disk").mkdir(mode=0o711)
    small = [f"{root / 'memory'}:24m"]
    given = {"root": root, "reuse": True, "bin_dir": bin_dir}
    with Container(OWN_PROCESSES, small, **given) as one, Container((), small, **given) as other:
        data = [container.ask("acquire")["data"] for container in (one, other)]
        assert all(path.startswith(str(root / "disk")) for path in data)
        assert data[0] != data[1]
        assert one.ask("ask") != other.ask("ask")
    # The next two find what these have left.
    with Container((), small, **given) as one, Container(OWN_PROCESSES, small, **given) as other:
        found = [container.ask("acquire") for container in (one, other)]
        assert found == [{"data": path, "notes": []} for path in data]


@pytest.mark.parametrize("namespaces", [OWN_PROCESSES, ()], ids=["other-processes", "same-processes"])
def test_a_data_dir_that_another_container_uses_is_refused(
    root: Path, bin_dir: str, namespaces: tuple[str, ...]
) -> None:
    """Where the locks of its server's directory cannot be seen, those of the cluster are."""
    for name in ("data", "memory", "disk"):
        (root / name).mkdir(mode=0o711)
    given = {"root": root, "reuse": True, "bin_dir": bin_dir, "data_dir": root / "data"}
    own = [str(root / "memory"), str(root / "disk")]
    with Container(namespaces, own, **given) as container:
        container.ask("acquire")
        since = container.ask("ask")
        with Container((), own, **given) as other:
            refusal = other.ask("acquire")
            assert refusal["error"] == "ServerUnavailableError"
            assert "local.data_dir: another server uses" in refusal["message"]
        assert container.ask("ask") == since
    assert (root / "data" / "cluster" / "data" / "PG_VERSION").exists()


def test_a_server_that_cannot_be_seen_keeps_its_data_dir(
    root: Path, bin_dir: str, orphan: Callable[[Path], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes have a lock, also without a supervisor: no second server is started on its files."""
    cluster = _stopped(root, bin_dir, data_dir=root / "data")
    server = orphan(cluster)
    assert is_held(str(cluster / SERVING))
    own = [str(root / "memory"), str(root / "disk")]
    given = {"root": root, "reuse": True, "bin_dir": bin_dir, "data_dir": root / "data"}
    with Container(OWN_PROCESSES, own, **given) as container:
        refusal = container.ask("acquire")
        assert "another server uses" in refusal["message"]
    assert server.process is not None
    assert server.process.poll() is None
    server.stop(orderly=False)
    assert not is_held(str(cluster / SERVING))


def test_old_data_that_a_container_uses_are_not_swept(root: Path, bin_dir: str) -> None:
    """However old they look to somebody who has not got the directory of its server."""
    for name in ("memory", "disk"):
        (root / name).mkdir(mode=0o711)
    given = {"root": root, "reuse": True, "bin_dir": bin_dir}
    with Container(OWN_PROCESSES, [f"{root / 'memory'}:24m"], **given) as container:
        data = Path(container.ask("acquire")["data"])
        home = data.parent.parent
        os.utime(home, (0, 0))
        cleanup.sweep(places_for(root), "none")
        assert data.exists()
        assert container.ask("ask")
    assert until(lambda: not directories.is_kept(str(data.parent)))
    os.utime(home, (0, 0))
    cleanup.sweep(places_for(root), "none")
    assert not home.exists()


def test_root_without_the_right_to_look_sees_its_own_server(root: Path, bin_dir: str) -> None:
    """Containers lack CAP_SYS_PTRACE, and the server runs as another user there."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    program = f"from elefast.providers.local import processes; print(processes.servers_of({lease.data_dir!r}))"
    without = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", sys.executable, "-c", program]
    done = subprocess.run(without, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == processes.servers_of(lease.data_dir)
    assert postmaster_pid(lease) in json.loads(done.stdout)
    lease.release()


def test_a_supervisor_of_another_container_gets_no_signal(root: Path) -> None:
    """The number in its lock file is another process's here."""
    (root / "keeper").write_text("")
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl, time; file = open({str(root / 'keeper')!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX); "
            "import os; file.write(str(os.getpid())); file.flush(); time.sleep(60)",
        ]
    ) as supervisor:
        try:
            assert until(lambda: (root / "keeper").read_text())
            theirs = {"namespaces": {"pid": "pid:[1]"}}
            assert not supervisor_client.dismiss(str(root / "keeper"), theirs)
            assert supervisor.poll() is None
            assert supervisor_client.dismiss(str(root / "keeper"), {"namespaces": {"pid": processes.namespace("pid")}})
            assert supervisor.wait(10) == -signal.SIGTERM
        finally:
            supervisor.kill()


REUSED = """
import os, signal, time
from elefast.providers.local import processes

victim = os.fork()
if not victim:
    time.sleep(60)

def still_it():
    # It ends, and its number goes to another process before the signal is sent.
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(victim - 1))
    global other
    other = os.fork()
    if not other:
        time.sleep(60)
    assert other == victim, (other, victim)
    return True

processes.send_signal(victim, signal.SIGKILL, still_it)
time.sleep(0.2)
assert os.waitpid(other, os.WNOHANG) == (0, 0), "the wrong process got the signal"
os.kill(other, signal.SIGKILL)
os.waitpid(other, 0)
print("unharmed")
"""


def test_a_number_that_was_given_to_another_process_is_not_signalled() -> None:
    """Even if that happens between the look and the signal."""
    command = ["unshare", "--mount", *OWN_PROCESSES, "--fork", sys.executable, "-c", REUSED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "unharmed\n", done.stderr


def test_killed_with_its_supervisor_a_server_is_not_waited_for(root: Path, bin_dir: str) -> None:
    """The lock that its processes had goes with the last of them."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    os.kill(postmaster_pid(lease), signal.SIGKILL)
    os.kill(supervisor_pid(lease), signal.SIGKILL)
    again = provider(root, bin_dir, reuse=True).acquire()
    assert again.data_dir == lease.data_dir
    assert ask(again, "select 1") == 1
    for one in (again, lease):
        one.release()


def test_a_container_is_gone_with_its_server(root: Path, bin_dir: str) -> None:
    """Killed in the middle; what it left in a directory that is shared is usable at once."""
    for name in ("data", "memory", "disk"):
        (root / name).mkdir(mode=0o711)
    given = {"root": root, "reuse": True, "bin_dir": bin_dir, "data_dir": root / "data"}
    container = Container(OWN_PROCESSES, [str(root / "memory"), str(root / "disk")], **given)
    with container:
        data = container.ask("acquire")["data"]
        container._process.kill()
    shutil.rmtree(root / "memory")
    lease = provider(root, bin_dir, reuse=True, data_dir=root / "data").acquire()
    assert lease.data_dir == data
    assert ask(lease, "select 1") == 1
    lease.release()

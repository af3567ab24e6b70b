"""One server for all who want the same, for as long as one of them lives."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from elefast.providers import LocalProvider, running_servers, server_settings, stop_held
from elefast.providers.local import LocalLease
from tests.integration.providers.provider_support import Clients, ask, gone, processes_below, provider, until


def test_eight_processes_at_once_share_one_server(root: Path, bin_dir: str, clients: Clients) -> None:
    """Whoever is first starts it, the others wait; nothing is left when all have gone."""
    started = [clients.start(bin_dir) for _ in range(8)]
    assert len({client.answer["url"] for client in started}) == 1
    for client in started:
        client.close()
    assert until(lambda: gone(root))


def test_all_get_the_same_error(bin_dir: str, clients: Clients, root: Path) -> None:
    """A start that fails fails for all who waited for it."""
    started = [clients.start(bin_dir, start_timeout=0.0) for _ in range(4)]
    for client in started:
        assert client.answer["error"] == "ServerStartError"
    assert until(lambda: gone(root))


def test_threads_share_it(root: Path, bin_dir: str) -> None:
    """Each has a lease of its own; the server ends with the last."""
    leases: list[LocalLease] = []
    local = provider(root, bin_dir)
    threads = [threading.Thread(target=lambda: leases.append(local.acquire())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({str(lease.url) for lease in leases}) == 1
    for lease in leases[:-1]:
        lease.release()
        lease.release()
    assert ask(leases[-1], "SELECT 1") == 1
    leases[-1].release()
    assert until(lambda: gone(root))


def test_another_configuration_is_another_server(root: Path, bin_dir: str) -> None:
    """Settings and reuse are part of what a server is."""
    leases = [
        provider(root, bin_dir).acquire(),
        provider(root, bin_dir, settings=server_settings(jit=True)).acquire(),
        provider(root, bin_dir, reuse=True).acquire(),
    ]
    assert len({lease.url.port for lease in leases}) == 3
    for lease in leases:
        lease.release()


def test_the_requirement_is_not(root: Path, bin_dir: str) -> None:
    """Two projects that are content with the same server share it."""
    first = provider(root, bin_dir, requirement=">=10").acquire()
    second = provider(root, bin_dir, requirement=">=11").acquire()
    assert first.url == second.url
    first.release()
    second.release()


def test_coming_and_going_never_fails(root: Path, bin_dir: str) -> None:
    """A user that comes while the server is just being removed gets a new one."""
    for pause in (0.0, 0.002, 0.005, 0.01, 0.02, 0.03):
        lease = provider(root, bin_dir).acquire()
        assert ask(lease, "SELECT 1") == 1
        lease.release()
        time.sleep(pause)
    assert until(lambda: gone(root))


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_a_client_killed_while_it_starts_the_server(root: Path, bin_dir: str, clients: Clients, delay: float) -> None:
    """Nothing is left, or the next one gets a server that works: at whatever moment."""
    client = clients.start(bin_dir)
    time.sleep(delay)
    client.kill()
    lease = provider(root, bin_dir).acquire()
    assert ask(lease, "SELECT 1") == 1
    lease.release()
    assert until(lambda: gone(root))


def test_a_killed_client_is_no_user_any_more(root: Path, bin_dir: str, clients: Clients) -> None:
    """With reuse off all of it goes without anybody's help."""
    client = clients.start(bin_dir)
    assert client.answer["url"]
    client.kill()
    assert until(lambda: gone(root))


def test_a_killed_client_does_not_disturb_the_others(root: Path, bin_dir: str, clients: Clients) -> None:
    """Its hold ends, theirs does not."""
    client = clients.start(bin_dir)
    lease = provider(root, bin_dir).acquire()
    assert client.answer["url"] == lease.url.render_as_string(hide_password=False)
    client.kill()
    time.sleep(0.2)
    assert ask(lease, "SELECT 1") == 1
    lease.release()


def test_ctrl_c_does_not_reach_the_server(root: Path, bin_dir: str, clients: Clients) -> None:
    """It goes to the client's process group, of which neither supervisor nor server is part."""
    client = clients.start(bin_dir, popen={"start_new_session": True, "stderr": subprocess.DEVNULL})
    assert client.answer["url"]
    lease = provider(root, bin_dir).acquire()
    os.killpg(client.process.pid, signal.SIGINT)
    client.close()
    time.sleep(0.1)
    assert ask(lease, "SELECT 1") == 1
    lease.release()


def test_a_forked_child_has_no_lease(root: Path, bin_dir: str) -> None:
    """It neither gives the parent's back nor keeps the server alive after the parent did."""
    lease = provider(root, bin_dir).acquire()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        lease.release()
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    time.sleep(0.2)
    assert ask(lease, "SELECT 1") == 1
    lease.release()
    ended = until(lambda: gone(root))
    os.close(writing)
    os.waitpid(child, 0)
    assert ended


def test_a_held_server_stays_until_it_is_stopped(root: Path, bin_dir: str) -> None:
    """There are databases to look at; new users find it as it was."""
    lease = provider(root, bin_dir).acquire()
    url = lease.url
    lease.hold()
    lease.release()
    time.sleep(0.5)
    (found,) = running_servers(root)
    assert (found.held, found.in_use, found.status, found.port) == (True, False, "ready", url.port)
    again = provider(root, bin_dir).acquire()
    assert again.url == url
    again.release()
    assert [server.identity for server in stop_held(root=root)] == [found.identity]
    assert until(lambda: gone(root))


def test_holding_ends_for_a_server_in_use_with_its_last_user(root: Path, bin_dir: str) -> None:
    """It is not stopped under anybody's hands."""
    lease = provider(root, bin_dir).acquire()
    lease.hold()
    assert stop_held(root=root) == []
    assert ask(lease, "SELECT 1") == 1
    lease.release()
    assert until(lambda: gone(root))


def test_a_list_of_no_servers(root: Path) -> None:
    """Is empty, and makes nothing."""
    assert running_servers(root) == []
    assert stop_held(root=root) == []
    assert gone(root)


def test_the_variable_for_tests_moves_everything(root: Path, bin_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the provider is made by the factory."""
    monkeypatch.setenv("_ELEFAST_ROOT", str(root))
    lease = LocalProvider(reuse=True, bin_dir=bin_dir).acquire()
    assert lease.data_dir.startswith(str(root))
    lease.release()
    assert until(lambda: not processes_below(root))

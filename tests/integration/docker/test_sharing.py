"""Who shares a container with whom, and when it goes away."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from elefast.cli import main
from elefast.errors import ServerStartError, ServerUnavailableError
from elefast.providers import server_settings
from elefast.providers.docker import inventory, sharing
from elefast.providers.docker import provider as provider_module
from elefast.providers.docker.provider import locks_root
from elefast.providers.docker.sharing import Share
from elefast.providers.files import locks
from tests.integration.docker.container_support import Clients, ask, connect, lock_files, names, our_owner, provider


def _is_up(url: str) -> bool:
    try:
        psycopg.connect(url.replace("+psycopg", ""), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def test_four_processes_at_once_start_one(clients: Clients, image: str, docker_client: Any) -> None:
    """And the last one out removes it, with its locks."""
    before = lock_files()
    four = clients.start(4, image=image)
    (container,) = {client.answer["container"] for client in four}
    assert [client.answer["notes"] for client in four] == [[]] * 4
    url = four[0].answer["url"]
    for client in four[:3]:
        client.close()
    assert _is_up(url)
    assert docker_client.containers.get(container).status == "running"
    four[3].close()
    assert not _is_up(url)
    assert container not in {one.id for one in docker_client.containers.list(all=True, ignore_removed=True)}
    assert lock_files() == before


def test_four_processes_get_one_error(home: Path, clients: Clients, any_image: str, docker_client: Any) -> None:
    """The first failure is everybody's, with the end of the server's log; nothing is left of it."""
    before = lock_files(), names(docker_client, home)
    four = clients.start(4, image=any_image, settings={"nonsense": "1"})
    assert {client.answer["error"] for client in four} <= {"ServerStartError", "DiedError"}
    (message,) = {client.answer["message"] for client in four}
    assert 'unrecognized configuration parameter "nonsense"' in message
    for client in four:
        client.close()
    assert (lock_files(), names(docker_client, home)) == before


def test_reuse_keeps_it_for_the_next_run(home: Path, image: str, docker_client: Any) -> None:
    """With its databases and its port; `elefast down` ends it."""
    first = provider(home, image=image, reuse=True).acquire()
    assert not first.ephemeral
    with connect(first) as connection:
        connection.execute("create database kept")
    first.release()
    second = provider(home, image=image, reuse=True).acquire()
    assert (second.container, second.url, second.notes) == (first.container, first.url, ())
    assert ask(second, "select count(*) from pg_database where datname = 'kept'") == 1
    second.release()
    assert main(["down"]) == 0
    assert second.name not in names(docker_client, home)


def test_down_spares_what_is_in_use(home: Path, any_image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And says what it does; the second time there is nothing to do."""
    lease = provider(home, image=any_image, reuse=True).acquire()
    assert main(["down"]) == 0
    assert f"in use, left running: container {lease.name} of {home}" in capsys.readouterr().out
    assert ask(lease, "select 1") == 1
    lease.release()
    assert main(["down"]) == 0
    assert f"removed container {lease.name} of {home}" in capsys.readouterr().out
    assert main(["down"]) == 0
    assert lease.name not in capsys.readouterr().out


def test_down_knows_who_is_in_use_without_the_directory_of_locks(
    home: Path, any_image: str, docker_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart of the machine that is gone where it was in memory, while containers are still there."""
    lease = provider(home, image=any_image, reuse=True).acquire()
    lease.release()
    monkeypatch.setattr(inventory, "locks_root", lambda: str(home / "gone" / "docker"))
    monkeypatch.setattr(inventory, "owner", lambda _: our_owner())
    assert [one.name for one in inventory.stop_containers() if one.removed] == [lease.name]
    assert names(docker_client, home) == []


def test_a_changed_configuration_replaces_it(home: Path, any_image: str, docker_client: Any) -> None:
    """Not before nobody uses the old one; then with a message. Other projects keep theirs."""
    other = home / "other"
    other.mkdir()
    foreign = provider(other, image=any_image, reuse=True).acquire()
    foreign.release()
    old = provider(home, image=any_image, reuse=True).acquire()
    changed = provider(home, image=any_image, reuse=True, settings=server_settings(work_mem="7MB"))
    new = changed.acquire()
    assert new.container != old.container
    assert ask(old, "select 1") == 1
    old.release()
    new.release()
    again = changed.acquire()
    try:
        assert again.container == new.container
        assert again.notes == (f"removed {old.name}: its configuration is not the project's any more",)
        assert again.notes[0] in again.description
        assert old.name not in names(docker_client, home)
        assert names(docker_client, other) == [foreign.name]
    finally:
        again.release()
        main(["down"])


def test_what_was_kept_for_a_look_stays(home: Path, any_image: str, docker_client: Any) -> None:
    """After the last lease, through a next run of the same and of another configuration, until `elefast down`."""
    before = lock_files()
    first = provider(home, image=any_image).acquire()
    first.hold()
    first.release()
    second = provider(home, image=any_image).acquire()
    assert second.container == first.container
    second.release()
    other = provider(home, image=any_image, settings={}).acquire()
    other.release()
    assert ask(first, "select 1") == 1
    assert main(["down"]) == 0
    assert first.name not in names(docker_client, home)
    assert lock_files() == before


def test_the_next_run_cleans_up_after_a_killed_one(
    home: Path, clients: Clients, any_image: str, docker_client: Any
) -> None:
    """Its container is nobody's: the same configuration gets a new one, others just remove it."""
    before = lock_files()
    (first,) = clients.start(image=any_image)
    old = first.answer["container"]
    first.kill()
    assert docker_client.containers.get(old).status == "running"
    second = provider(home, image=any_image).acquire()
    assert second.container != old
    (third,) = clients.start(image=any_image, settings={})
    killed = third.answer["container"]
    name = docker_client.containers.get(killed).name
    third.kill()
    second.release()
    fourth = provider(home, image=any_image).acquire()
    try:
        assert fourth.notes == (f"removed {name}: its run was killed",)
        assert names(docker_client, home) == [fourth.name]
    finally:
        fourth.release()
    assert lock_files() == before


def test_locks_that_nobody_uses_are_swept(home: Path, any_image: str) -> None:
    """They were left by somebody who was killed while he waited, or pulled an image; those in use stay."""
    before = lock_files()
    left, used = Share(locks_root(), "left"), Share(locks_root(), "used")
    os.close(left.join())
    users = used.join()
    lease = provider(home, image=any_image).acquire()
    try:
        assert not os.path.exists(left.directory)
        assert os.path.exists(used.directory)
    finally:
        lease.release()
        with used.alone(users) as alone:
            assert alone
    assert lock_files() == before


def test_killed_while_others_use_it(home: Path, clients: Clients, any_image: str) -> None:
    """It is theirs as before."""
    first, second = clients.start(2, image=any_image)
    assert first.answer["container"] == second.answer["container"]
    first.kill()
    lease = provider(home, image=any_image).acquire()
    assert lease.container == second.answer["container"]
    second.close()
    assert ask(lease, "select 1") == 1
    lease.release()


def test_a_failure_of_one_user_is_not_the_end_of_the_others(home: Path, any_image: str) -> None:
    """Who comes after a user that was not let in shares the container, instead of making it anew."""
    first = provider(home, image=any_image).acquire()
    with connect(first) as connection:
        connection.execute("alter role postgres password 'another'")
        with pytest.raises(ServerStartError, match="does not let us in"):
            provider(home, image=any_image).acquire()
        connection.execute("alter role postgres password 'elefast'")
        third = provider(home, image=any_image).acquire()
        assert third.container == first.container
        assert third.notes == ()
        connection.execute("select 1")
    third.release()
    first.release()


def test_what_is_written_outlives_a_killed_writer(tmp_path: Path) -> None:
    """It was about to cut off what a longer text had left behind its own."""
    share = Share(str(tmp_path / "root" / "docker"), "config")
    users = share.join()
    with share.turn("writes", 60) as turn:
        turn.write({"container": "a" * 64})
        turn.write({"pulled": 1.0})
        assert turn.read() == {"pulled": 1.0}
    with open(os.path.join(share.directory, "turn"), "ab") as file:
        file.write(b'a"}')
    with share.turn("writes", 60) as turn:
        assert turn.read()["pulled"] == 1.0
    with share.alone(users) as alone:
        assert alone


def test_waiting_is_neither_silent_nor_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has the turn, or removes the container, may have been stopped."""
    monkeypatch.setattr(sharing, "PATIENCE", 0)
    monkeypatch.setattr(sharing, "REMOVAL_TIMEOUT", 0.05)
    share = Share(str(tmp_path / "root" / "docker"), "config")
    users = share.join()
    with share.turn("starts the container", 60):
        who = f"process {os.getpid()}, which starts the container"
        with pytest.raises(ServerStartError, match=rf"waited 0\.05 s for {who}\n"):
            share.turn("starts the container", 0.05).__enter__()
        assert [record.getMessage() for record in caplog.records] == [f"docker: waiting for {who}"]
    with share.alone(users) as alone:
        assert alone
        with pytest.raises(ServerStartError, match=r"waited 0\.05 s for another process, which removes the container"):
            share.join()


def test_a_child_does_not_keep_the_turn(tmp_path: Path) -> None:
    """One that is forked while its parent has it, and lives on."""
    share = Share(str(tmp_path / "root" / "docker"), "config")
    users = share.join()
    reading, writing = os.pipe()
    with share.turn("forks", 60):
        child = os.fork()
        if not child:
            try:
                os.close(writing)
                os.read(reading, 1)
            finally:
                os._exit(0)
    try:
        again = locks.take(os.path.join(share.directory, "turn"), exclusive=True)
        assert again is not None
        os.close(again)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)
    with share.alone(users) as alone:
        assert alone


def test_locks_that_cannot_be_used(home: Path, any_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a file system without space: it is an error of the server's start, so `auto` goes on."""
    take = locks.take

    def full(path: str, **how: Any) -> int | None:
        if path.endswith("turn"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return take(path, **how)

    before = lock_files()
    with monkeypatch.context() as patch:
        patch.setattr(locks, "take", full)
        with pytest.raises(ServerStartError, match=rf"the locks .* in {locks_root()} cannot be used: .*No space"):
            provider(home, image=any_image).acquire()
    assert lock_files() == before


def test_another_owners_containers_are_left_alone(home: Path, clients: Clients, any_image: str) -> None:
    """Whose locks we cannot see, such as another machine's with the same engine, may well be alive."""
    elsewhere = tempfile.mkdtemp(prefix="elsewhere-", dir=home)
    (other,) = clients.start(image=any_image, env={"_ELEFAST_ROOT": elsewhere})
    mine = provider(home, image=any_image).acquire()
    assert mine.container != other.answer["container"]
    assert mine.notes == ()
    mine.release()
    main(["down"])
    assert _is_up(other.answer["url"])
    other.close()
    assert not _is_up(other.answer["url"])
    shutil.rmtree(elsewhere)


def test_ctrl_c_while_it_starts(
    home: Path, any_image: str, docker_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was created goes again; where it was for reuse, too, because it may be half made."""
    before = lock_files()

    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(provider_module, "await_server", interrupted)
        for reuse in (False, True):
            with pytest.raises(KeyboardInterrupt):
                provider(home, image=any_image, reuse=reuse).acquire()
            assert names(docker_client, home) == []
            assert lock_files() == before


def test_a_forked_child_holds_nothing(home: Path, any_image: str) -> None:
    """Its copy of the lease neither ends the container nor keeps it."""
    before = lock_files()
    lease = provider(home, image=any_image).acquire()
    child = os.fork()
    if not child:
        try:
            lease.release()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert ask(lease, "select 1") == 1
    lease.release()
    assert lock_files() == before


def test_a_name_of_the_projects_own(home: Path, any_image: str, docker_client: Any) -> None:
    """One container at a time has it; another configuration waits for the last user, then replaces it."""
    name = f"elefast-test-{home.parent.name}-{os.getpid()}"
    lease = provider(home, image=any_image, name=name).acquire()
    assert docker_client.containers.get(name).id == lease.container
    with pytest.raises(ServerUnavailableError, match=rf'(?s)"{name}" has another configuration.*docker\.name'):
        provider(home, image=any_image, name=name, settings={}).acquire()
    assert ask(lease, "select 1") == 1
    lease.release()
    first = provider(home, image=any_image, name=name, reuse=True).acquire()
    first.release()
    second = provider(home, image=any_image, name=name, settings={}).acquire()
    assert second.container != first.container
    second.release()

"""What a crash leaves, and how the next start gets over it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from elefast.errors import RefusedError, ServerStartError, ServerUnavailableError
from elefast.providers import running_servers
from elefast.providers.files import directories
from elefast.providers.files.directories import places_for
from elefast.providers.local import LocalLease, cleanup, orphan_files, supervisor_client
from tests.integration.providers.provider_support import (
    Clients,
    Installation,
    ask,
    connect,
    dsn,
    gone,
    installations,
    postmaster_pid,
    processes_below,
    provider,
    supervisor_pid,
    until,
)

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux")


def _stopped(root: Path, bin_dir: str) -> Path:
    """A cluster whose server has stopped; its directory."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    with connect(lease) as connection:
        connection.execute("CREATE DATABASE kept")
    lease.release()
    assert until(lambda: not processes_below(root))
    return Path(lease.data_dir).parent


def _kept(lease: LocalLease) -> bool:
    return bool(ask(lease, "SELECT count(*) FROM pg_database WHERE datname = 'kept'"))


@pytest.mark.parametrize("reuse", [True, False])
def test_a_killed_postmaster_is_replaced(root: Path, bin_dir: str, reuse: bool) -> None:
    """The supervisor notices; the next lease has a server that works, and the kept data where they are kept."""
    lease = provider(root, bin_dir, reuse=reuse).acquire()
    with connect(lease) as connection:
        connection.execute("CREATE DATABASE kept")
        os.kill(postmaster_pid(lease), signal.SIGKILL)
        assert until(lambda: running_servers(root)[0].status == "died")
    again = provider(root, bin_dir, reuse=reuse).acquire()
    assert _kept(again) == reuse
    lease.release()
    again.release()
    if not reuse:
        assert until(lambda: gone(root))


def test_a_killed_postmaster_leaves_nothing_with_its_last_user(root: Path, bin_dir: str) -> None:
    """Even if nobody comes again."""
    lease = provider(root, bin_dir).acquire()
    os.kill(postmaster_pid(lease), signal.SIGKILL)
    lease.release()
    assert until(lambda: gone(root))


@pytest.mark.parametrize("reuse", [True, False])
def test_a_killed_supervisor_is_replaced(root: Path, bin_dir: str, reuse: bool) -> None:
    """Its server does not survive it on Linux, and is stopped by the next supervisor elsewhere."""
    lease = provider(root, bin_dir, reuse=reuse).acquire()
    with connect(lease) as connection:
        connection.execute("CREATE DATABASE kept")
    os.kill(supervisor_pid(lease), signal.SIGKILL)
    again = provider(root, bin_dir, reuse=reuse).acquire()
    assert _kept(again)
    lease.release()
    again.release()
    if not reuse:
        assert until(lambda: gone(root))


@needs_proc
def test_no_server_outlives_its_supervisor(root: Path, bin_dir: str) -> None:
    """Also where nobody comes again."""
    lease = provider(root, bin_dir).acquire()
    os.kill(supervisor_pid(lease), signal.SIGKILL)
    assert until(lambda: not processes_below(root))
    lease.release()


def test_what_a_killed_supervisor_left_is_swept(root: Path, bin_dir: str) -> None:
    """By whoever starts a server next, of any configuration."""
    lease = provider(root, bin_dir).acquire()
    os.kill(supervisor_pid(lease), signal.SIGKILL)
    left = Path(lease.log_path).parent
    lease.release()
    other = provider(root, bin_dir, settings={}).acquire()
    assert until(lambda: not left.exists())
    other.release()
    assert until(lambda: gone(root))


def test_an_interrupt_before_there_is_a_supervisor_leaves_nothing(
    root: Path, bin_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would have removed the directory in the end."""

    def interrupted(job: object) -> bool:
        assert len(list((root / "memory").iterdir())) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(supervisor_client, "_spawn_supervisor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        provider(root, bin_dir).acquire()
    assert list((root / "memory").iterdir()) == []


@pytest.mark.parametrize("files", [[], ["users"], ["users", "start"]], ids=len)
def test_what_was_left_before_there_was_a_supervisor_is_swept(root: Path, files: list[str]) -> None:
    """Its user was killed; there is nothing in it that could be of use to anybody."""
    left = root / "memory" / "0123456789ab"
    left.mkdir(parents=True)
    directories.claim(str(left))
    for name in files:
        (left / name).touch()
    cleanup.sweep(places_for(root), "none")
    assert not left.exists()


def test_the_sweep_spares_what_is_used(root: Path, bin_dir: str) -> None:
    """However old its files look."""
    used = provider(root, bin_dir).acquire()
    os.utime(Path(used.log_path).with_name("users"), (0, 0))
    cleanup.sweep(places_for(root), "none")
    assert ask(used, "SELECT 1") == 1
    used.release()


def test_the_sweep_spares_what_is_not_ours(root: Path) -> None:
    """It does not even write into a directory without our mark."""
    foreign = root / "memory" / "foreign"
    foreign.mkdir(parents=True)
    (foreign / "users").touch()
    os.utime(foreign / "users", (0, 0))
    cleanup.sweep(places_for(root), "none")
    assert [entry.name for entry in foreign.iterdir()] == ["users"]


def test_kept_data_are_swept_when_nobody_wants_them(root: Path, bin_dir: str) -> None:
    """After two weeks, and not before."""
    home = _stopped(root, bin_dir).parent
    cleanup.sweep(places_for(root), "none")
    assert home.exists()
    long_ago = time.time() - 15 * 24 * 3600
    os.utime(home / "users", (long_ago, long_ago))
    cleanup.sweep(places_for(root), "none")
    assert not home.exists()


def test_caches_are_swept_when_nobody_wants_them(root: Path) -> None:
    """Such as that of a version which is not installed any more; what is not ours stays."""
    old, new, foreign = (root / "disk" / name for name in ("initdb-9-0", "initdb-10-0", "foreign"))
    (root / "disk").mkdir()
    directories.claim(str(old))
    directories.claim(str(new))
    foreign.mkdir()
    long_ago = time.time() - 15 * 24 * 3600
    for path in (old, foreign):
        os.utime(path, (long_ago, long_ago))
    cleanup.sweep(places_for(root), "none")
    assert [path.exists() for path in (old, new, foreign)] == [False, True, True]


def test_sigterm_ends_a_server_in_good_order(root: Path, bin_dir: str) -> None:
    """As when the machine shuts down."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    os.kill(supervisor_pid(lease), signal.SIGTERM)
    assert until(lambda: not processes_below(root))
    assert not Path(lease.data_dir, "postmaster.pid").exists()
    again = provider(root, bin_dir, reuse=True).acquire()
    assert again.notes == ()
    lease.release()
    again.release()


def test_a_stale_pid_file_is_no_server(root: Path, bin_dir: str) -> None:
    """Not even when its pid is that of a living process."""
    cluster = _stopped(root, bin_dir)
    (cluster / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster}/data\n0\n5432\n\n\n\nready\n")
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert _kept(lease)
    lease.release()


@needs_proc
def test_a_stale_lock_of_a_socket_is_no_server(root: Path, bin_dir: str) -> None:
    """A server that was killed with its supervisor is followed by another one, even if its process id is reused."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    (lock,) = Path(lease.socket_dir).glob(".s.PGSQL.*.lock")
    text = lock.read_text()
    os.kill(supervisor_pid(lease), signal.SIGKILL)
    assert until(lambda: not processes_below(root))
    other = provider(root, bin_dir, settings={}).acquire()
    lock.write_text("\n".join([str(postmaster_pid(other)), *text.splitlines()[1:], ""]))
    again = provider(root, bin_dir, reuse=True).acquire()
    with connect(again):
        pass
    for one in (again, other, lease):
        one.release()


def _no_description(cluster: Path) -> None:
    (cluster / "cluster.json").unlink()


def _no_version(cluster: Path) -> None:
    (cluster / "data" / "PG_VERSION").unlink()


def _nothing(cluster: Path) -> None:
    shutil.rmtree(cluster / "data")


def _other_major(cluster: Path) -> None:
    described = json.loads((cluster / "cluster.json").read_text())
    (cluster / "cluster.json").write_text(json.dumps({**described, "major": "9"}))


def _power_lost(cluster: Path) -> None:
    (cluster / "running").write_text("another boot")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_no_description, "it was not complete"),
        (_no_version, "it was not complete"),
        (_nothing, "it was not complete"),
        (_other_major, "data of PostgreSQL 9"),
        (_power_lost, "when the machine went down"),
    ],
)
def test_unusable_data_are_rebuilt(
    root: Path, bin_dir: str, damage: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And elefast says why."""
    damage(_stopped(root, bin_dir))
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert not _kept(lease)
    assert why in lease.notes[0]
    assert why in caplog.text
    lease.release()


def test_missing_data_are_made_anew(root: Path, bin_dir: str) -> None:
    """As after a start of the machine, which empties what is in memory."""
    _stopped(root, bin_dir)
    shutil.rmtree(root / "memory")
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert not _kept(lease)
    assert lease.notes == ()
    lease.release()


def test_data_of_another_version_in_a_data_dir_are_not_touched(root: Path) -> None:
    """The user named that directory: he decides."""
    found = installations()
    if len(found) < 2 or found["system"].major == found["wheel"].major:
        pytest.skip("needs two major versions")
    lease = provider(root, found["system"].bin_dir, reuse=True, data_dir=root / "data").acquire()
    lease.release()
    assert until(lambda: not processes_below(root))
    with pytest.raises(ServerStartError, match=rf"local\.data_dir: data of PostgreSQL {found['system'].major}"):
        provider(root, found["wheel"].bin_dir, reuse=True, data_dir=root / "data").acquire()
    assert until(lambda: not processes_below(root))
    assert Path(lease.data_dir, "PG_VERSION").exists()


def test_a_foreign_data_dir_is_refused(root: Path, bin_dir: str) -> None:
    """Nothing of it is touched."""
    (root / "data").mkdir()
    (root / "data" / "precious").touch()
    with pytest.raises(RefusedError, match="precious"):
        provider(root, bin_dir, data_dir=root / "data").acquire()
    assert [entry.name for entry in (root / "data").iterdir()] == ["precious"]


def test_what_was_being_built_is_removed(root: Path, bin_dir: str) -> None:
    """The next start clears what a killed supervisor had begun."""
    home = _stopped(root, bin_dir).parent
    rubbish = home / "building-1-1"
    directories.claim(str(rubbish))
    (rubbish / "data").mkdir()
    provider(root, bin_dir, reuse=True).acquire().release()
    assert not rubbish.exists()
    assert until(lambda: not processes_below(root))


@pytest.mark.parametrize("delay", [0.03, 0.06, 0.1, 0.2, 0.4, 0.6])
def test_a_supervisor_killed_while_it_builds(root: Path, bin_dir: str, clients: Clients, delay: float) -> None:
    """In initdb, in a copy, in the start: its client starts another one."""
    client = clients.start(bin_dir, reuse=True)
    assert until(lambda: list((root / "memory").glob("*/keeper")) if (root / "memory").exists() else False)
    (file,) = (root / "memory").glob("*/keeper")
    assert until(lambda: file.exists() and file.read_text())
    time.sleep(delay)
    os.kill(int(file.read_text()), signal.SIGKILL)
    assert "url" in client.answer, client.answer
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert ask(lease, "SELECT 1") == 1
    lease.release()


@pytest.mark.parametrize("name", ["building-1-1732566000000000000", "trash-aa-1-1732566000000000000"])
def test_what_a_killed_supervisor_was_at_goes_with_the_next_start(root: Path, bin_dir: str, name: str) -> None:
    """Where it put something together, or removed it, beside the servers; however lately that was."""
    _stopped(root, bin_dir)
    rubbish = [root / parent / name for parent in ("memory", "disk")]
    for path in rubbish:
        directories.claim(str(path))
        (path / "data").mkdir()
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert until(lambda: not any(path.exists() for path in rubbish))
    lease.release()
    assert until(lambda: not processes_below(root))


def test_files_that_no_database_has_go_with_the_next_start(root: Path, bin_dir: str) -> None:
    """PostgreSQL leaves them where it is killed while it copies a database; what a database has stays."""
    base = _stopped(root, bin_dir) / "data" / "base"
    shutil.copytree(base / "1", base / "99999")
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert not (base / "99999").exists()
    assert _kept(lease)
    lease.release()
    assert until(lambda: not processes_below(root))


def test_files_of_a_database_that_is_being_made_stay(root: Path, bin_dir: str) -> None:
    """Nobody looks while somebody is at it."""
    lease = provider(root, bin_dir).acquire()
    made = Path(lease.data_dir, "base", "99999")
    made.mkdir()
    with connect(lease) as somebody, psycopg.connect(dsn(lease)) as looking:
        with somebody.transaction():
            somebody.execute("lock table pg_database in row exclusive mode")  # as CREATE DATABASE does
            with pytest.raises(psycopg.errors.LockNotAvailable):
                orphan_files.clear(looking, lease.data_dir)
        assert made.exists()
        looking.rollback()
        assert orphan_files.clear(looking, lease.data_dir) == [str(made)]
    lease.release()
    assert until(lambda: gone(root))


def test_a_broken_cache_is_made_again(root: Path, bin_dir: str) -> None:
    """What is in its place is not trusted."""
    cluster = _stopped(root, bin_dir)
    (cached,) = (root / "disk").glob("initdb-*")
    (cached / "data" / "PG_VERSION").unlink()
    shutil.rmtree(cluster.parent)
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert ask(lease, "SELECT 1") == 1
    lease.release()
    assert until(lambda: (cached / "data" / "PG_VERSION").exists() and not processes_below(root))


@pytest.mark.fault("the data removed under the server", how="its directory deleted while it runs")
def test_a_directory_that_was_removed_under_the_server(root: Path, bin_dir: str) -> None:
    """The next user gets a new one; the old one ends with its user."""
    lease = provider(root, bin_dir).acquire()
    shutil.rmtree(root / "memory")
    again = provider(root, bin_dir).acquire()
    assert ask(again, "SELECT 1") == 1
    lease.release()
    again.release()
    assert until(lambda: gone(root))


def test_an_upgrade_under_a_running_server(root: Path, installation: Installation) -> None:
    """The binaries' place has another major version by now: the running server is not taken for it."""
    (root / "bin").symlink_to(installation.bin_dir)
    lease = provider(root, str(root / "bin")).acquire()
    described = Path(lease.log_path).with_name("state.json")
    described.write_text(json.dumps({**json.loads(described.read_text()), "major": "9", "version": "9.6"}))
    with pytest.raises(ServerUnavailableError, match=r"a server of PostgreSQL 9\.6 still runs"):
        provider(root, str(root / "bin")).acquire()
    lease.release()


@pytest.fixture
def small(root: Path) -> Iterator[Path]:
    """A file system of 24 MB in the place of memory; only root can have that."""
    path = root / "memory"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0711", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system")
    yield path
    assert until(lambda: not processes_below(root))
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.fault("no room in memory", how="a tmpfs too small for a server")
def test_without_room_in_memory_the_data_go_to_the_disk(small: Path, root: Path, bin_dir: str) -> None:
    """The data go to the disk, and with reuse off they leave it again."""
    lease = provider(root, bin_dir).acquire()
    assert lease.data_dir.startswith(str(root / "disk"))
    assert lease.socket_dir.startswith(str(small))
    lease.release()
    assert until(lambda: not any((root / "disk").iterdir()) if (root / "disk").exists() else True)


@pytest.mark.fault("no room for a server", how="local.data_dir on a tmpfs too small for one")
def test_a_data_dir_without_room(small: Path, root: Path, bin_dir: str) -> None:
    """The error says which file system, how much is free, and what to set."""
    (small / "data").mkdir()
    with pytest.raises(ServerStartError, match=r"(?s)no space left.*of 24 MB.*ELEFAST_LOCAL__DATA_DIR"):
        provider(root, bin_dir, data_dir=small / "data").acquire()
    assert until(lambda: not processes_below(root))
    assert not any((small / "data").iterdir())


def _fits(descriptor: int) -> bool:
    try:
        return os.write(descriptor, bytes(4096)) > 0
    except OSError:
        return False


@pytest.mark.fault("no room for anything", how="the provider's root on a full tmpfs")
def test_no_room_even_for_the_locks(small: Path, root: Path, bin_dir: str) -> None:
    """Neither hangs nor leaves a process."""
    with (small / "ballast").open("wb", buffering=0) as ballast:
        while _fits(ballast.fileno()):
            pass
    with pytest.raises(ServerStartError, match=r"(?s)no space left.* 0 MB free of 24 MB"):
        provider(root, bin_dir).acquire()


def test_a_password_that_was_changed(root: Path, bin_dir: str) -> None:
    """In kept data: the error says what to remove."""
    lease = provider(root, bin_dir, reuse=True).acquire()
    with connect(lease) as connection:
        connection.execute("ALTER ROLE postgres PASSWORD 'mine'")
    lease.release()
    assert until(lambda: not processes_below(root))
    with pytest.raises(ServerStartError, match=r"(?s)does not let us in.*password.*remove .*cluster"):
        provider(root, bin_dir, reuse=True).acquire()


def test_the_servers_of_others_are_never_signalled(root: Path, bin_dir: str) -> None:
    """A pid file of ours that names a process which is not on our data directory changes nothing for it."""
    cluster = _stopped(root, bin_dir)
    other = provider(root, bin_dir).acquire()
    pid = postmaster_pid(other)
    (cluster / "data" / "postmaster.pid").write_text(f"{pid}\n{cluster}/data\n0\n5432\n\n\n\nready\n")
    lease = provider(root, bin_dir, reuse=True).acquire()
    assert postmaster_pid(other) == pid
    assert ask(other, "SELECT 1") == 1
    lease.release()
    other.release()


def test_connections_end_with_a_dead_server(root: Path, bin_dir: str) -> None:
    """No backend of a killed postmaster goes on."""
    lease = provider(root, bin_dir).acquire()
    connection = connect(lease)
    os.kill(postmaster_pid(lease), signal.SIGKILL)
    assert until(lambda: running_servers(root)[0].status == "died")
    assert until(lambda: not [line for line in processes_below(root) if "works in" in line])
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    lease.release()

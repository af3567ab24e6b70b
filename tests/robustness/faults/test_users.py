"""Several users of one machine, each with servers of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elefast.providers.local import account
from tests.integration.providers.provider_support import CLIENT, Client, Clients, installations, processes_below, until


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all users may enter."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="elefast-test-users-", dir=memory))
    path.chmod(0o755)
    yield path
    left = until(lambda: not processes_below(path)) or processes_below(path)
    shutil.rmtree(path)
    assert left is True, f"processes left: {left}"


def _start(clients: Clients, home: Path, user: str) -> Client:
    """A client of `user`, with all of its own below `home`."""
    entry = pwd.getpwnam(user)
    home.mkdir()
    home.chmod(0o711)
    os.chown(home, entry.pw_uid, entry.pw_gid)
    popen: dict[str, Any] = {
        "user": entry.pw_uid,
        "group": entry.pw_gid,
        "extra_groups": [],
        "cwd": "/",
        "env": {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
    }
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([python, "-c", CLIENT.partition("given")[0]], **popen, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        bin_dir = next(iter(installations().values())).bin_dir
        return clients.start(bin_dir, python=python, root=str(home / "root"), popen=popen)
    pytest.skip(f"{user} has no interpreter that can import elefast")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
@pytest.mark.fault("several users of one machine at once", how="servers of root, nobody and root's server user")
def test_users_at_once(shared: Path) -> None:
    """Each has a server that the others cannot read, and one's end is nothing to the others."""
    names = ["root", *dict.fromkeys(["nobody", account.candidates("")[0].name])]
    with Clients(shared) as clients:
        running = {name: _start(clients, shared / name, name) for name in names}
        urls = {client.answer["url"] for client in running.values()}
        assert len(urls) == len(names)
        for name in names[1:]:
            data = Path(running[name].answer["data"])
            assert data.stat().st_uid == pwd.getpwnam(name).pw_uid
            assert stat.S_IMODE(data.parent.parent.stat().st_mode) == 0o700
        running["nobody"].kill()
        assert until(lambda: not any((shared / "nobody" / "root").iterdir()))
        others = [client for name, client in running.items() if name != "nobody"]
        assert all(Path(client.answer["data"], "postmaster.pid").exists() for client in others)
        for client in others:
            client.close()
    assert until(lambda: not any(any((shared / name).glob("root/*")) for name in names))

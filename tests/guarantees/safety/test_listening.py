"""Where the servers that elefast starts can be reached, as the kernel has it."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from elefast.providers.local.server import ADDRESS
from tests.guarantees.safety.sockets import listening, unix_sockets
from tests.integration.providers.provider_support import ask, connect, processes_below, provider, until


@pytest.fixture
def root(elefast_root: Path) -> Iterator[Path]:
    """A directory for a server of this test's own."""
    if sys.platform != "linux":
        pytest.skip("these tests look at sockets in /proc")
    path = elefast_root / "listening"
    path.mkdir(mode=0o711, exist_ok=True)
    yield path
    assert until(lambda: not processes_below(path))
    shutil.rmtree(path)


@pytest.mark.fault("a server that others can reach", how="all sockets of the postmaster, in /proc/net")
@pytest.mark.parametrize("reuse", [True, False])
def test_a_local_server(root: Path, reuse: bool) -> None:
    """It listens on loopback and on a socket in a directory of its own, and lets nobody in without the password."""
    lease = provider(root, reuse=reuse).acquire()
    try:
        with connect(lease) as connection:
            (data,) = connection.execute("show data_directory").fetchone() or ("",)
            postmaster = int((Path(data) / "postmaster.pid").read_text().partition("\n")[0])
            assert {address for address, _ in listening(postmaster)} == {ADDRESS}
            assert {port for _, port in listening(postmaster)} == {lease.url.port}
            for path in unix_sockets(postmaster):
                # Only the user that it runs as, and who starts it, get there.
                assert not _open_to_all(Path(path)), path
        rules = connection_rules(Path(data))
        assert rules
        assert {method for _, method in rules} <= {"scram-sha-256", "reject", "peer"}
        for password in ("", "postgres", "elefast"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(
                    host=ADDRESS, port=lease.url.port, user="postgres", password=password or None, passfile="/nowhere"
                )
        assert len(lease.url.password or "") >= 32
        assert ask(lease, "select 1") == 1
    finally:
        lease.release()


def test_the_look_finds_a_socket_that_is_open_to_all() -> None:
    """What it says of a server is worth something."""
    # A process of its own: the worker that runs this test may have sockets of other tests.
    program = (
        "import os, socket, sys\n"
        "server = socket.create_server(('0.0.0.0', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "sys.stdin.readline()\n"
        "server.close()\n"
        "print('closed', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert listening(process.pid) == {("0.0.0.0", port)}
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"closed\n"
        assert listening(process.pid) == set()


def connection_rules(data: Path) -> list[tuple[str, str]]:
    """The kind of connection and the method of each line of ``pg_hba.conf``."""
    lines = [line.split() for line in (data / "pg_hba.conf").read_text().splitlines()]
    return [(words[0], words[-1]) for words in lines if words and not words[0].startswith("#")]


def _open_to_all(path: Path) -> bool:
    """Whether every user may connect to the socket at `path`: all directories above let them in, and it does."""
    parts = [path, *path.parents]
    wanted = {True: stat.S_IWOTH, False: stat.S_IXOTH}
    return all(one.stat().st_mode & wanted[one == path] for one in parts)

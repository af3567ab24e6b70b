"""The machine: a directory in memory, a tuned server that all suites share, an ordinary user, and what it is."""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.environment import open_to_all
from elefast.providers import LocalProvider
from elefast.providers.local.binaries import find
from elefast.providers.tuning import server_settings

__all__ = [
    "binaries",
    "busy",
    "database",
    "facts",
    "given",
    "ordinary_user",
    "tuned_server",
    "wait_for_end",
    "workplace",
]

_MEMORY = Path("/dev/shm")
PACKAGES = ("elefast", "pytest", "pytest-xdist", "sqlalchemy", "psycopg", "asyncpg", "alembic")
PEERS = ("pytest-postgresql", "pytest-mock-resources", "pgtestdbpy")


@contextmanager
def workplace(parent: str = "") -> Generator[Path]:
    """A directory in memory, where there is some: elsewhere a disk would be measured; removed at the end."""
    where = parent or (str(_MEMORY) if os.access(_MEMORY, os.W_OK) else tempfile.gettempdir())
    path = Path(tempfile.mkdtemp(prefix="elefast-bench-", dir=where))
    path.chmod(0o755)  # some suites run as another user
    try:
        yield path
    finally:
        wait_for_end(path)
        shutil.rmtree(path, ignore_errors=True)


def busy(seconds: float = 2.0) -> float:
    """How many processors are at work at the moment, while nothing of the benchmark's own runs.

    The load average would count the item before, too.
    """
    start = _worked()
    time.sleep(seconds)
    return (_worked() - start) / os.sysconf("SC_CLK_TCK") / seconds


def _worked() -> int:
    """Ticks that all processors together have worked; see proc_stat(5)."""
    user, nice, system, _idle, _waits, *interrupts = Path("/proc/stat").read_text().splitlines()[0].split()[1:8]
    return sum(map(int, (user, nice, system, *interrupts)))


@contextmanager
def tuned_server(root: Path, bin_dir: str = "") -> Generator[str]:
    """The URL of a server with elefast's tuning, for all suites; it has gone at the end.

    Passwords cost what PostgreSQL's default makes them cost, because some peers make roles of their own.
    """
    provider = LocalProvider(bin_dir=bin_dir, reuse=False, settings=server_settings(), scram_iterations=4096, root=root)
    lease = provider.acquire()
    try:
        yield lease.url.render_as_string(hide_password=False)
    finally:
        lease.release()


@contextmanager
def given(url: str) -> Generator[str]:
    """A server that somebody else has started."""
    yield url


@contextmanager
def database(url: str, name: str) -> Generator[None]:
    """A database of a name that a suite expects."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def wait_for_end(root: Path, seconds: float = 30) -> None:
    """Wait until no process works on `root` any more: servers stop a moment after their last user."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        try:
            if not any(str(root).encode() in command for command in commands):
                return
        except OSError:
            pass  # one ended while we looked
        time.sleep(0.02)


def binaries(bin_dir: str = "") -> str:
    """The directory with PostgreSQL's programs."""
    return find(bin_dir, "").directory


def ordinary_user() -> str:
    """As root: whom to run as where root will not do, if that user can run this Python; else empty."""
    if os.geteuid() or not open_to_all(sys.executable):
        return ""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), "")


def facts(url: str = "") -> dict[str, Any]:
    """What was measured on, and with which versions."""
    found: dict[str, Any] = {
        "processors": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (*PACKAGES, *PEERS)},
        "commit": _commit(),
    }
    if url:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            row = connection.execute("SELECT split_part(version(), ' ', 2)").fetchone()
            found["postgres"] = row[0] if row else ""
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()

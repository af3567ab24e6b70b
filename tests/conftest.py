"""What every test of this repository may use: one PostgreSQL for the run, and a check that nothing is left.

The server comes from elefast's own local provider and is started when the first test asks for it.
With pytest-xdist each worker has one of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from elefast.providers import LocalProvider
from tests.robustness.companions.plugins import without
from tests.support.dumps import psqls

pytest_plugins = ["pytester", "tests.support.faultlog", "tests.support.longest"]

# In memory where there is some, for the sake of machines whose disk is slow at creating files.
_MEMORY = Path("/dev/shm")
_PARENT = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_PARENT))

# Of the world around the run; tests that want one of them set it themselves.
_FOREIGN = ("ELEFAST_", "PYTEST_XDIST_", "PG")
_FOREIGN_NAMES = ("CI", "TESTING_DB_URL", "DATABASE_URL")

_SERVER_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_connections": "300",
    # for what a test may leave that outlives its session
    "max_prepared_transactions": "5",
    "wal_level": "logical",
}


def pytest_configure() -> None:
    """Let Ctrl-C mean what it means on a terminal: a shell that starts us in the background has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """Leave no empty directories of pytest's in memory; what failed tests left in them stays."""
    for directory in _PARENT.glob("pytest-of-*"):
        with suppress(OSError):
            for entry in directory.iterdir():
                with suppress(OSError):
                    if entry.is_symlink():
                        entry.unlink()
                    else:
                        entry.rmdir()
            directory.rmdir()


@pytest.fixture(scope="session", autouse=True)
def elefast_root() -> Generator[Path]:
    """The directory below which all local servers of this run live, in a clean environment.

    At the end there must be no file in it, and no process that knows it.
    """
    root = Path(tempfile.mkdtemp(prefix="elefast-test-", dir=_PARENT))
    root.chmod(0o711)  # a server that root starts runs as somebody else
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                if name.startswith(_FOREIGN) or name in _FOREIGN_NAMES:
                    patch.delenv(name)
            patch.setenv("PYTEST_ADDOPTS", " ".join(without()))
            patch.setenv("_ELEFAST_ROOT", str(root))
            with _psql_that_runs() as programs:
                patch.setenv("PATH", f"{programs}{os.environ['PATH']}")
                yield root
        left = _what_is_left(root, seconds=20)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    assert not left, "left behind by the tests:\n" + "\n".join(left)


@contextmanager
def _psql_that_runs() -> Generator[str]:
    """The start of a PATH on which there is one; Debian's ``psql`` is a wrapper that may have no client behind it."""
    found = psqls()
    if not found or shutil.which("psql") in found:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="elefast-psql-", dir=_PARENT) as programs:
        Path(programs, "psql").symlink_to(found[0])
        yield f"{programs}{os.pathsep}"


@pytest.fixture(scope="session")
def server_url(elefast_root: Path) -> Generator[str]:
    """A superuser's URL (``postgresql+psycopg://``) of a server that this run may do anything with."""
    if named := os.environ.get("TEST_SERVER_URL"):  # where elefast starts none, as on Windows
        yield named
        return
    # pg8000 refuses a password that was made with fewer iterations than PostgreSQL's default.
    provider = LocalProvider(
        bin_dir=os.environ.get("TEST_POSTGRES_BIN", ""),  # another version than the one that would be found
        reuse=False,
        settings=_SERVER_SETTINGS,
        scram_iterations=4096,
        root=elefast_root,
    )
    lease = provider.acquire()
    try:
        yield lease.url.render_as_string(hide_password=False)
    finally:
        lease.release()


def _what_is_left(root: Path, seconds: float) -> list[str]:
    """Files below `root` and processes that name it; servers have some time to go away.

    What only saves time is meant to stay.
    """
    deadline = time.monotonic() + seconds
    while True:
        # os.walk, because directories may vanish while one looks
        left = [os.path.join(where, name) for where, _, names in os.walk(root) for name in names]
        left = [path for path in left if os.path.basename(os.path.dirname(path)) != "caches"]
        left += [command for command in _commands() if str(root) in command]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _commands() -> list[str]:
    """The command lines of all processes, where the machine shows them."""
    commands: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        commands.append(f"{entry.name}: " + b" ".join(words).decode(errors="replace"))
    return commands

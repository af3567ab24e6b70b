"""Processes of the operating system: what a server inherits, and finding the servers that nobody keeps.

Only processes that provably run on a data directory of ours are ever signalled.
Must stay light: the keeper imports it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from elefast import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "boot_identity",
    "dies_with_parent",
    "environment",
    "postmaster_file",
    "servers_of",
    "stop_orphans",
]

_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TZ")


def environment() -> dict[str, str]:
    """The environment of every program of PostgreSQL that we start.

    No ``PG*`` that changes what it does, no secrets of the tests, messages in English (we read some).
    """
    kept = {name: value for name in _INHERITED if (value := os.environ.get(name))}
    return {"PATH": "/usr/bin:/bin", **kept, "LC_ALL": "C", "HOME": "/"}


def dies_with_parent(number: int) -> Callable[[], None] | None:
    """For ``preexec_fn``: the child gets the signal when the process that started it is gone, where the
    system can do that. So a server never outlives its keeper, even when that one is killed."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    parent = os.getpid()

    def before_exec() -> None:
        prctl(1, number)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return before_exec


def boot_identity() -> str:
    """Changes whenever the machine starts; empty where that cannot be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "kern.bootsessionuuid")
    return ""


def postmaster_file(data: str) -> list[str]:
    """The lines of ``postmaster.pid``: pid, data directory, start time, port, ..., status as the eighth."""
    try:
        with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as file:
            return [line.strip() for line in file]
    except OSError:
        return []


def servers_of(data: str) -> list[int]:
    """Every process of a server on this data directory, the backends of a dead postmaster among them."""
    return _seen_in_proc(data) if os.path.isdir("/proc/self") else _seen_by_ps(data)


def _seen_in_proc(data: str) -> list[int]:
    names = _names(data)
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _works_in(name, names)]


def _seen_by_ps(data: str) -> list[int]:
    """Where there is no /proc, only the postmaster can be found: by the command line with which we started it."""
    lines = postmaster_file(data)
    if not lines or not lines[0].isdigit():
        return []
    # As wide as it is: some have 79 columns for whoever is no terminal.
    command = _output("ps", "-ww", "-o", "command=", "-p", lines[0])
    return [int(lines[0])] if any(f"-D {name} " in f"{command} " for name in _names(data)) else []


def _names(data: str) -> set[str]:
    """As it was started with, and as the system has it: on macOS, /tmp and /var are links."""
    return {data, os.path.realpath(data)}


def _works_in(process: str, directories: set[str]) -> bool:
    # The command line first: in containers not even root may see where another user's process works.
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            program, *arguments = file.read().split(b"\0")
        if os.path.basename(program) == b"postgres" and arguments[:1] == [b"-D"]:
            return os.fsdecode(arguments[1]) in directories
        return os.readlink(f"/proc/{process}/cwd") in directories and (
            "postgres" in os.path.basename(os.readlink(f"/proc/{process}/exe"))
        )
    except (OSError, IndexError):
        return False


def _output(*command: str) -> str:
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def stop_orphans(data: str, patience: float = 5.0) -> bool:
    """End the server that runs on our data directory without a keeper; whether there was one."""
    found = servers_of(data)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        pids = servers_of(data)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = clock.now() + patience
        while servers_of(data) and clock.now() < deadline:
            time.sleep(0.005)
    return bool(found)

"""The processes of a run, told by a word in their environment or by a directory in their command lines.

This looks into /proc, so these tests are for Linux.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "family", "send"]


@dataclass(frozen=True)
class Process:
    """A process as it was a moment ago."""

    pid: int
    parent: int
    command: str

    @property
    def is_worker(self) -> bool:
        """Whether it is a worker of pytest-xdist."""
        return "eval(sys.stdin.readline())" in self.command

    @property
    def is_runner(self) -> bool:
        """Whether it is the interpreter that builds a template."""
        return "elefast.migrators.sandbox.child" in self.command

    @property
    def is_supervisor(self) -> bool:
        """Whether it keeps a local server."""
        return "elefast.providers.local.supervisor" in self.command

    @property
    def is_initdb(self) -> bool:
        """Whether it makes a data directory."""
        return self.command.partition(" ")[0].endswith("/initdb")

    @property
    def is_postmaster(self) -> bool:
        """Whether it is the first process of a server."""
        return self.command.partition(" ")[0].endswith("/postgres") and " -D " in self.command


def family(word: str, directory: Path | None = None, pid: int = 0) -> list[Process]:
    """The process `pid`, those with `word` in their environment, if there is one, and those that name `directory`."""
    found: list[Process] = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            place = Path("/proc", name)
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            status = (place / "stat").read_text().rpartition(")")[2].split()
            if status[0] in "ZX":
                continue
            ours = int(name) == pid or (bool(word) and word.encode() in (place / "environ").read_bytes())
            if ours or (directory is not None and (str(directory) in command or _works_below(place, directory))):
                found.append(Process(int(name), int(status[1]), command))
    return found


def _works_below(place: Path, directory: Path) -> bool:
    """Backends call themselves something else, and work in their server's data directory."""
    return os.readlink(place / "cwd").startswith(f"{directory}/")


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; whether there was somebody to get it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True

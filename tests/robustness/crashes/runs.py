"""One run of pytest that goes on in the background, like one in a terminal of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tests.robustness.crashes.forks import Forked, Forks
from tests.robustness.crashes.processes import Process, family, send

__all__ = ["HangError", "Run", "Runnable"]

LIMIT = 90.0
"""Seconds after which a run is taken to hang; half a minute of patience with a silent server is in them."""


class HangError(AssertionError):
    """A run did not end; with the stacks of its processes."""


class Runnable(Protocol):
    """A project, as far as running it goes."""

    path: Path
    temporary: Path
    """For the temporary files of its runs."""

    @property
    def env(self) -> Mapping[str, str]:
        """What a run of it as it is now needs."""
        ...

    @property
    def command(self) -> Sequence[str]:
        """What Python is told for a run of all its tests."""
        ...


class Run:
    """A run, in a session of its own.

    Args:
        project: What it runs.
        env: Where the server is, and whatever the round adds.
        word: Told in the environment, so that its processes can be found.
        directory: Servers that it starts are below it.
        command: What Python is told instead of the project's own command.
        cwd: Where it runs, if not in the project.
        typed: Whether somebody types; see `type`.
        forks: Starts it by a fork; None for a process that starts from nothing, as everywhere else.
    """

    def __init__(
        self,
        project: Runnable,
        env: Mapping[str, str],
        word: str,
        directory: Path | None = None,
        *,
        command: Sequence[str] = (),
        cwd: Path | None = None,
        typed: bool = False,
        forks: Forks | None = None,
    ) -> None:
        self.word = word
        self.began = time.monotonic()
        self.seconds = -1.0
        self._directory = directory
        self._log = project.path / f"run-{word}.log"
        variables = {
            **os.environ,
            **project.env,
            **env,
            "CRASH_WORD": word,
            "TMPDIR": str(project.temporary),
            "PYTEST_DEBUG_TEMPROOT": str(project.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONFAULTHANDLER": "1",
        }
        args, cwd = command or project.command, cwd or project.path
        self.process: Forked | subprocess.Popen[bytes]
        if forks is not None:
            self.process = forks.start(args, cwd, variables, self._log)
            return
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *args],
                cwd=cwd,
                env=variables,
                stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether pytest itself has ended."""
        return self.process.poll() is not None

    def family(self) -> list[Process]:
        """Its processes, pytest itself first, and those of servers that it uses."""
        found = family(f"CRASH_WORD={self.word}", self._directory, 0 if self.ended else self.process.pid)
        return sorted(found, key=lambda process: process.pid != self.process.pid)

    def end(self, limit: float = LIMIT) -> float:
        """Wait until pytest has ended; the seconds that it took.

        Raises:
            HangError: It did not.
        """
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise HangError(f"pytest did not end within {limit:g} s\n{self._stacks()}") from None
        self.seconds = time.monotonic() - self.began
        return self.seconds

    def vanish(self, limit: float = LIMIT) -> None:
        """Wait until all its processes have gone.

        Raises:
            HangError: One did not.
        """
        deadline = time.monotonic() + limit
        while left := self.family():
            if time.monotonic() > deadline:
                listed = "\n".join(f"{process.pid}: {process.command}" for process in left)
                raise HangError(f"processes of the run that do not end:\n{listed}\n{self._stacks()}")
            time.sleep(0.03)  # to look at all processes of the machine is work

    def type(self, line: str) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole foreground process group."""
        self.send_all(signal.SIGINT)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to all processes that a terminal or a CI service would send it to."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End whatever is left of it, when the test is over; supervisors see that by themselves."""
        for process in self.family():
            send(process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _stacks(self) -> str:
        """What everybody is at: Python's own fault handler tells it when a process is aborted."""
        for process in self.family():
            if "python" in process.command and not process.is_supervisor:
                send(process.pid, signal.SIGABRT)
        time.sleep(2)
        return self.text

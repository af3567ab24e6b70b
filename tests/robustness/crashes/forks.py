"""A process that has imported what a run of pytest needs, and forks whenever one is to begin.

Most of what a short run costs is Python's start and its imports, which no round of a long series has to repeat. What is
forked does all that pytest and elefast do in a process like any other, in a session of its own; only its environment
cannot be read in /proc.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import _pytest
from sqlalchemy.dialects import postgresql

import elefast

__all__ = ["Forked", "Forks"]

_LIBRARIES = ("alembic.command", "asyncpg", "psycopg", "pydantic_settings", "sqlalchemy.ext.asyncio")
_PLUGINS = ("pytest_asyncio.plugin", "xdist.dsession", "xdist.plugin")


class Forked:
    """A process that was forked by another one; it can be used like a `subprocess.Popen`."""

    stdin: IO[bytes] | None = None

    def __init__(self, pid: int, code: Path) -> None:
        self.pid = pid
        self._code = code

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        with suppress(FileNotFoundError):
            return int(self._code.read_text())
        return None

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end.

        Args:
            timeout: Seconds.

        Raises:
            subprocess.TimeoutExpired: It did not end.
        """
        deadline = time.monotonic() + timeout
        while (code := self.returncode) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.002)
        return code


class Forks:
    """The side of it that asks."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONFAULTHANDLER": "1"}
        command = [sys.executable, "-m", "tests.robustness.crashes.forks"]
        self._process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True, start_new_session=True)

    @classmethod
    @contextmanager
    def opened(cls) -> Generator[Forks]:
        """One that ends after that; a run that is under way goes on."""
        forks = cls()
        try:
            yield forks
        finally:
            forks._process.communicate()

    def start(self, args: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> Forked:
        """Start a run.

        Args:
            args: What Python would be told: ``-m``, the name of a module, and its arguments.
            cwd: Where it runs.
            env: All of its environment.
            log: A new file for what it prints.
        """
        log.touch()  # here: who is killed as soon as it is there has not come to it
        code = log.with_suffix(".code")
        request = {"args": [*args], "cwd": str(cwd), "env": {**env}, "log": str(log), "code": str(code)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()), code)


def _parts_of(package: ModuleType) -> Iterator[str]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return (part.name for part in found if not part.name.endswith("__main__"))


def _serve() -> None:
    """Fork for each request, and write down with what each child ended."""
    codes: dict[int, str] = {}

    def reap(*_: object) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                file = Path(codes.pop(ended[0]))
                file.with_suffix(".new").write_text(str(os.waitstatus_to_exitcode(ended[1])))
                file.with_suffix(".new").replace(file)

    for name in (*_LIBRARIES, *_PLUGINS, *_parts_of(elefast), *_parts_of(_pytest), *_parts_of(postgresql)):
        with suppress(ImportError):  # an extra that is not here
            importlib.import_module(name)
    gc.freeze()  # or each child's collections would copy all that is imported, which is most of what it costs
    signal.signal(signal.SIGCHLD, reap)
    while line := sys.stdin.readline():
        request = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        if not (pid := os.fork()):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            _run(request)
            return
        codes[pid] = request["code"]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        print(pid, flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _run(request: Mapping[str, Any]) -> None:
    """Be what was asked for, in the process that was forked for it."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(log)
    os.close(nothing)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    _, module, *sys.argv[1:] = request["args"]
    sys.path[0] = request["cwd"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()

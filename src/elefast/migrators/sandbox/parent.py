"""Starts the fresh interpreter that runs code of the project, sends it the work, and reads its replies.

It knows processes and pipes; `elefast.migrators.sandbox.child` is the program that runs there.

    parent                                          child
    BuildProcess(): import path, root, steps  ──►   import libraries; run no code of the project yet
    run(): URL, environment, declared files   ──►   run the steps
                                              ◄──   {"begin": label}, {"item": 3, "of": 100, ...} ... for display
                                              ◄──   {"manifest": ...} or {"error": ...}, and exit

Each message is one line of JSON. Where standard input ends early, this process is gone, and the child exits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL

from elefast import errors
from elefast.errors import ConfigurationError, ElefastError, MigrationError, Problem
from elefast.migrators.error_report import tail, without_secret
from elefast.migrators.steps import BuildTarget, Step, send, to_json
from elefast.postgres.libpq_variables import VARIABLES, libpq_environment
from elefast.postgres.url_variables import variable_values
from elefast.runtime import progress
from elefast.templates.manifest import Manifest

__all__ = ["BuildProcess"]

# The first message has the import path, without which elefast itself may not be found.
_PROGRAM = """
import json, os, sys
pipe = os.fdopen(os.dup(0), "rb")
setup = json.loads(pipe.readline())
sys.path[:] = setup["path"]
from elefast.migrators.sandbox.child import main
main(setup, pipe)
"""

# Seconds for the interpreter to exit after its result. Threads that the code has left are not waited for longer.
_EXIT_TIMEOUT = 10.0


class BuildProcess:
    """A fresh interpreter that runs steps of a plan; it starts before there is a database, to import its modules.

    It has this process's import path and environment, and the project directory as its working directory.

    Args:
        steps: The steps that it will run, in order.
        root: The project directory.
    """

    def __init__(self, steps: Sequence[Step], root: Path) -> None:
        self._steps = tuple(steps)
        self._path = _import_path()
        # The code prints into a file. A pipe would stay open, and be waited for, as long as any child of the code.
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process lives
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            cwd=root,
        )
        self._send({"path": self._path, "root": str(root), "steps": [to_json(step) for step in steps]})

    def fits(self, steps: Sequence[Step]) -> bool:
        """Whether it would run `steps`, with the import path that this process has now."""
        return self._steps == tuple(steps) and self._path == _import_path()

    def run(self, target: BuildTarget, declared: Iterable[Path]) -> Manifest:
        """Run the steps, and end the interpreter.

        Args:
            target: The database to run them on.
            declared: Files and directories that need not be observed.

        Returns:
            What the code was seen to use.

        Raises:
            MigrationError: Code of the project failed, or the interpreter ended without a result.
            ElefastError: Any other error of elefast's that a step raised there.
        """
        # The message is no variable of this function, because it has the password: tracebacks may show variables.
        self._send(_build_message(target, declared))
        try:
            reply = self._last_reply()
            self._output.seek(0)
            printed = without_secret(self._output.read().decode(errors="replace"), target.url)
        finally:
            self.close()
        if "manifest" in reply:
            return replace(Manifest.from_json(reply["manifest"]), returned=reply["returned"])
        if "error" in reply:
            raise _error(reply, printed, target.url)
        doing, status = reply.get("begin", "starting"), self._process.returncode
        how = f"exit status {status}" if status >= 0 else f"signal {-status}"
        text = f"{doing}: the interpreter that builds the template ended with {how}, without a result"
        raise MigrationError("\n".join([text, *tail(printed)]), code="migration-interpreter")

    def close(self) -> None:
        """Kill the interpreter if it still runs, and close its pipes; safe to repeat."""
        process = self._process
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stdin):
            assert pipe
            with suppress(OSError):
                pipe.close()
        self._output.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        # It fails where the interpreter ended early (on Windows not with BrokenPipeError). Its exit status and its
        # output tell the reason. The pipe stays open: its end tells the child that this process is gone.
        with suppress(OSError):
            send(self._process.stdin, message)

    def _last_reply(self) -> dict[str, Any]:
        """The result; or, of an interpreter that ended without one, the beginning of its last step."""
        assert self._process.stdout
        last: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # it ended early, as in `_send`
            for line in self._process.stdout:
                reply = json.loads(line)
                if "item" in reply:
                    progress.step(reply["item"], reply["of"], reply["unit"])
                    continue
                last = reply
                if "begin" not in reply:
                    break
                progress.begin_part(reply["begin"])
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_TIMEOUT)
        return last


def _build_message(target: BuildTarget, declared: Iterable[Path]) -> dict[str, Any]:
    """The second message: the database and the environment."""
    environment = libpq_environment(target.url, os.environ, target.application_name, owned=target.owned)
    environment |= variable_values(target.url, target.variables, target.driver)
    # Variables that elefast sets differ from build to build, so they are no inputs of the template.
    set_here = {*target.variables, *VARIABLES}
    set_here |= {
        name for name in environment.keys() | os.environ.keys() if environment.get(name) != os.environ.get(name)
    }
    return {
        "environment": environment,
        "given": sorted(set_here),
        "url": target.url.render_as_string(hide_password=False),
        "driver": target.driver,
        "async_driver": target.async_driver,
        "mark": target.mark,
        "patch": list(target.patch),
        "declared": [str(path) for path in declared],
    }


def _import_path() -> list[str]:
    return [os.path.abspath(entry) for entry in sys.path]


def _error(reply: Mapping[str, Any], printed: str, url: URL) -> ElefastError:
    """The error that a step raised in the interpreter, with the output of the code where that may explain it."""
    name = reply["error"]
    if name == "ConfigurationError":
        problems = [
            Problem(origin, key, without_secret(text, url), code=code) for origin, key, text, code in reply["problems"]
        ]
        return ConfigurationError(problems, reply["hint"])
    kind = getattr(errors, name, MigrationError)
    lines = [reply["message"], *(tail(printed) if kind is MigrationError else [])]
    error: ElefastError = kind(without_secret("\n".join(lines), url), code=reply["code"])
    return error

"""Starts the fresh interpreter that runs code of the project, and brings back what it says.

It knows processes and pipes; what runs there is in `elefast.migrators.sandbox.child`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL

from elefast import errors
from elefast.errors import ConfigurationError, ElefastError, MigrationError, Problem
from elefast.migrators.error_report import tail, without_secret
from elefast.migrators.steps import BuildTarget, Step, to_json
from elefast.postgres import libpq_variables
from elefast.postgres.url_variables import variable_values
from elefast.runtime import progress
from elefast.templates.manifest import Manifest

__all__ = ["BuildProcess"]

# What it gets first has the import path that elefast itself may be found on.
_START = """
import json, os, sys
pipe = os.fdopen(os.dup(0), "rb")
first = json.loads(pipe.readline())
sys.path[:] = first["path"]
from elefast.migrators.sandbox.child import main
main(first, pipe)
"""

# After its result the interpreter has nothing to do but to end; threads that it left are not waited for longer.
_GRACE = 10.0


class BuildProcess:
    """A fresh interpreter, started before its work is known, since most of its time goes into imports.

    It has this process's import path and environment, and the project directory as its working directory.

    Args:
        parts: What it will run, in order.
        root: The project directory.
    """

    def __init__(self, parts: Sequence[Step], root: Path) -> None:
        self._parts = tuple(parts)
        self._root = root
        self._first = {"path": _path(), "root": str(root), "parts": [to_json(part) for part in parts]}
        # What the code prints goes to a file: a pipe would keep us waiting for every child that it leaves behind.
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process lives
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            cwd=root,
        )
        self._send(self._first)

    def is_for(self, parts: Sequence[Step]) -> bool:
        """Whether it would run `parts`, and imports from where this process does by now."""
        return self._parts == tuple(parts) and self._first["path"] == _path()

    def run(self, target: BuildTarget, declared: Iterable[Path]) -> Manifest:
        """Run the parts; what they were seen to use.

        Args:
            target: The database to run them on.
            declared: Files and directories that need not be observed.

        Raises:
            MigrationError: Code of the project failed.
            ElefastError: Whatever else a part raised.
        """
        # Nothing that errors go through has the password in a variable, as tracebacks may show those.
        self._send(_rest(target, declared))
        try:
            reply = self._answer()
            self._output.seek(0)
            printed = without_secret(self._output.read().decode(errors="replace"), target.url)
        finally:
            self.dismiss()
        if "manifest" in reply:
            return Manifest.from_json(reply["manifest"])
        if "error" not in reply:
            doing, status = reply.get("begin", "starting"), self._process.returncode
            how = f"exit status {status}" if status >= 0 else f"signal {-status}"
            text = f"{doing}: the interpreter that builds the template ended with {how}, without a result"
            raise MigrationError("\n".join([text, *tail(printed)]), code="migration-interpreter")
        raise _error(reply, printed, target.url)

    def dismiss(self) -> None:
        """End it, whatever it does; safe to repeat."""
        process = self._process
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stdin):
            assert pipe
            with suppress(OSError):
                pipe.close()
        self._output.close()

    def _send(self, what: Mapping[str, Any]) -> None:
        assert self._process.stdin
        with suppress(
            OSError
        ):  # it ended early (on Windows a broken pipe has another name); its status and output say why
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            # It stays open: its end tells the interpreter that we are gone.
            self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        """Its last word."""
        assert self._process.stdout
        reply: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # the same
            for line in self._process.stdout:
                said = json.loads(line)
                if "step" in said:
                    progress.step(said["step"], said["of"], said["unit"])
                    continue
                reply = said
                if "begin" not in reply:
                    break
                progress.begin_part(reply["begin"])
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        return reply


def _rest(target: BuildTarget, declared: Iterable[Path]) -> dict[str, Any]:
    """What it must know besides what it was started with."""
    environment = libpq_variables.libpq_environment(target.url, os.environ, target.application_name, owned=target.owned)
    environment |= variable_values(target.url, target.variables, target.driver)
    # What leads to the template differs from what the tests have, and from build to build.
    given = {*target.variables, *libpq_variables.VARIABLES}
    given |= {name for name in environment.keys() | os.environ.keys() if environment.get(name) != os.environ.get(name)}
    return {
        "environment": environment,
        "given": sorted(given),
        "url": target.url.render_as_string(hide_password=False),
        "driver": target.driver,
        "async_driver": target.async_driver,
        "mark": target.mark,
        "declared": [str(path) for path in declared],
    }


def _path() -> list[str]:
    return [os.path.abspath(entry) for entry in sys.path]


def _error(reply: Mapping[str, Any], printed: str, url: URL) -> ElefastError:
    """The error that the other interpreter raised, with what was printed there."""
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

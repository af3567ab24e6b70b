"""Starts the fresh interpreter that runs code of the project, and brings back what it says.

It knows processes and pipes; what runs there is in `elefast.migrators.runner`.
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
from elefast.kernel.manifest import Manifest
from elefast.migrators.environment import libpq_environment, variables
from elefast.migrators.failure import tail, without_secret
from elefast.migrators.parts import Part, Target, to_json

__all__ = ["run_in_fresh_interpreter"]

# The plan comes first, because it has the import path that elefast itself may be found on.
_START = """
import json, sys
plan = json.loads(sys.stdin.buffer.readline())
sys.path[:] = plan["path"]
from elefast.migrators.runner import main
main(plan)
"""

# After its result the interpreter has nothing to do but to end; threads that it left are not waited for longer.
_GRACE = 10.0


def run_in_fresh_interpreter(parts: Sequence[Part], target: Target, declared: Iterable[Path]) -> Manifest:
    """Run `parts` in an interpreter of their own; what they were seen to use.

    It has this process's import path and environment, and the project directory as its working directory.

    Args:
        parts: What to run, in order.
        target: The database to run it on.
        declared: Files and directories that need not be observed.

    Raises:
        MigrationError: Code of the project failed.
        ElefastError: Whatever else a part raised.
    """
    environment = libpq_environment(target.url, os.environ, target.application_name)
    environment |= variables(target.url, target.variables)
    plan = {
        "path": [os.path.abspath(entry) for entry in sys.path],
        "root": str(target.root),
        "url": target.url.render_as_string(hide_password=False),
        "driver": target.driver,
        "async_driver": target.async_driver,
        "declared": [str(path) for path in declared],
        "parts": [to_json(part) for part in parts],
    }
    # What the code prints goes to a file: a pipe would keep us waiting for every child that it leaves behind.
    with tempfile.TemporaryFile() as output:
        reply, status = _converse(plan, target.root, environment, output)
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if "manifest" in reply:
        return Manifest.from_json(reply["manifest"])
    if "error" not in reply:
        doing = reply.get("begin", "starting")
        how = f"exit status {status}" if status >= 0 else f"signal {-status}"
        text = f"{doing}: the interpreter that builds the template ended with {how}, without a result"
        raise MigrationError(
            without_secret("\n".join([text, *tail(printed)]), target.url), code="migration-interpreter"
        )
    raise _error(reply, printed, target.url)


def _converse(
    plan: Mapping[str, Any], root: Path, environment: Mapping[str, str], output: IO[bytes]
) -> tuple[dict[str, Any], int]:
    """Start the interpreter, give it the plan, and take its last word and its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        cwd=root,
        env=environment,
    )
    assert process.stdin
    assert process.stdout
    reply: dict[str, Any] = {}
    try:
        try:
            process.stdin.write(json.dumps(plan).encode() + b"\n")
            # It stays open: its end tells the interpreter that we are gone.
            process.stdin.flush()
            for line in process.stdout:
                reply = json.loads(line)
                if "begin" not in reply:
                    break
        except (BrokenPipeError, ValueError):
            pass  # it ended early; its status and what it printed say why
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()
    return reply, process.returncode


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

"""Starts a supervisor, asks one to end, and checks that the running server is elefast's."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from elefast.errors import ServerStartError
from elefast.postgres import libpq_variables
from elefast.providers.files import directories, locks
from elefast.providers.local import orphan_files, state_file
from elefast.providers.local.processes import namespace, send_signal
from elefast.providers.local.server import ADDRESS
from elefast.providers.local.supervisor import BUSY

_log = logging.getLogger("elefast")

__all__ = ["dismiss", "prove", "start_supervisor"]


def start_supervisor(directory: str, job: Mapping[str, Any]) -> bool:
    """Start a supervisor, and wait until it has its lock.

    Args:
        directory: The directory of the server.
        job: See `Supervisor`.

    Returns:
        False if the server has a supervisor, or another user starts one.

    Raises:
        ServerStartError: The supervisor cannot be started.
    """
    try:
        turn = locks.take(os.path.join(directory, state_file.START), exclusive=True)
    except FileNotFoundError:
        return False
    if turn is None:
        return False
    try:
        if locks.is_held(os.path.join(directory, state_file.SUPERVISOR)):
            return False
        # Users must not take the state of the last supervisor for that of the new one. The port is kept, so that
        # connections with the former address still work.
        port = state_file.read(directory).get("port", 0)
        state_file.write(directory, {"status": "starting", "port": port, "reuse": job["reuse"]})
        return _spawn_supervisor({**job, "port": port})
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ServerStartError(directories.full_disk(directory), code="local-disk-full") from error
        raise
    finally:
        os.close(turn)


def _spawn_supervisor(job: Mapping[str, Any]) -> bool:
    package = __name__.partition(".")[0]
    path = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules[package].__file__ or "")))
    # Without site and its .pth files, which "-m" would need, the interpreter starts in half the time.
    code = (
        f"import sys; sys.path.insert(0, {path!r}); "
        f"from {package}.providers.local.supervisor import main; sys.exit(main())"
    )
    with subprocess.Popen(
        # The last argument shows the server in a list of processes.
        [sys.executable, "-I", "-S", "-c", code, job["server"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,  # so that Ctrl-C in the terminal does not reach the server
    ) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(job))
        # The user connects next, so these are imported while the other interpreter starts.
        import_module("sqlalchemy.dialects.postgresql.psycopg")
        import_module("psycopg")
        assert process.stderr is not None
        said = process.stderr.read()
        status = process.wait()
    if status not in (0, BUSY):
        raise ServerStartError(f"the local server cannot be started:\n{said.strip()}", code="local-start-failed")
    return status == 0


def dismiss(supervisor: str, described: Mapping[str, Any]) -> bool:
    """Ask a supervisor to end.

    While it holds its lock, the process id in the lock file is the supervisor's, but only in its own PID namespace.

    Args:
        supervisor: The path of its lock file.
        described: The state that it wrote.

    Returns:
        Whether this process can ask it.
    """
    if described.get("namespaces", {}).get("pid", "") != namespace("pid"):
        return False

    def number() -> int:
        with suppress(OSError, ValueError), open(supervisor, encoding="ascii") as file:
            return int(file.read())
        return 0

    if not (pid := number()):
        return False
    send_signal(pid, signal.SIGTERM, lambda: locks.is_held(supervisor) and number() == pid)
    return True


def prove(described: Mapping[str, Any], timeout: float) -> None:
    """Connect once, and remove the files that an earlier run of the server left.

    Another program that listens on the port does not know the password's verifier, so the connection would fail.

    Args:
        described: The state that the supervisor wrote.
        timeout: Seconds.

    Raises:
        ServerStartError: The server refuses the connection.
    """
    import psycopg

    cluster = os.path.dirname(described["data"])
    try:
        parameters: dict[str, Any] = {
            **libpq_variables.overriding_parameters(),
            "hostaddr": ADDRESS,
            "sslmode": "disable",
            "connect_timeout": max(2, int(timeout)),
        }
        with libpq_variables.hide_pgservice():
            connection = psycopg.connect(
                host=ADDRESS,
                port=described["port"],
                user=described["user"],
                password=described["password"],
                dbname="postgres",
                **parameters,
            )
    except psycopg.Error as error:
        raise ServerStartError(
            f"the local server runs, but does not let us in: {error}\n"
            f"if its password was changed, remove {cluster} when the server is not in use",
            code="server-locked-out",
        ) from error
    # Such files do no harm. If another process makes a database at the moment, a later start removes them.
    with connection, suppress(psycopg.Error, OSError):
        for path in orphan_files.clear(connection, described["data"]):
            _log.info("removed %s: no database has these files", path)

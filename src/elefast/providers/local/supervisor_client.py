"""Starting a keeper, asking one to end, and making sure that the server which runs is ours."""

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
from elefast.postgres import libpq
from elefast.providers.files import directories, locks
from elefast.providers.local import orphan_files, state_file
from elefast.providers.local.processes import namespace, send_signal
from elefast.providers.local.server import ADDRESS
from elefast.providers.local.supervisor import BUSY

_log = logging.getLogger("elefast")

__all__ = ["dismiss", "prove", "start_keeper"]


def start_keeper(directory: str, job: Mapping[str, Any]) -> bool:
    """Start a keeper, and wait until it has its lock; false if somebody else is at it."""
    try:
        turn = locks.take(os.path.join(directory, state_file.START), exclusive=True)
    except FileNotFoundError:
        return False
    if turn is None:
        return False
    try:
        if locks.is_held(os.path.join(directory, state_file.KEEPER)):
            return False
        # The last keeper's words must be gone before anybody can see that there is a new one. It may take
        # the port that it had: whoever wrote down how to connect still can.
        port = state_file.read(directory).get("port", 0)
        state_file.write(directory, {"status": "starting", "port": port, "reuse": job["reuse"]})
        return _spawn_keeper({**job, "port": port})
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ServerStartError(directories.full_disk(directory), code="local-disk-full") from error
        raise
    finally:
        os.close(turn)


def _spawn_keeper(job: Mapping[str, Any]) -> bool:
    package = __name__.partition(".")[0]
    path = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules[package].__file__ or "")))
    # Not "-m": without site and its .pth files the interpreter is there in half the time.
    code = (
        f"import sys; sys.path.insert(0, {path!r}); "
        f"from {package}.providers.local.supervisor import main; sys.exit(main())"
    )
    with subprocess.Popen(
        # The last argument is for those who look at the processes of the machine.
        [sys.executable, "-I", "-S", "-c", code, job["server"]],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=True,  # Ctrl-C in the terminal is not for the server
    ) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(job))
        # Whoever wants the server connects to it next; it is imported while the other interpreter starts.
        import_module("sqlalchemy.dialects.postgresql.psycopg")
        import_module("psycopg")
        assert process.stderr is not None
        said = process.stderr.read()
        status = process.wait()
    if status not in (0, BUSY):
        raise ServerStartError(f"the local server cannot be started:\n{said.strip()}", code="local-start-failed")
    return status == 0


def dismiss(keeper: str, described: Mapping[str, Any]) -> bool:
    """Ask a keeper to end; whether that was possible.

    The pid in its lock file is the keeper's for as long as it holds the lock, but only in its own PID namespace.

    Args:
        keeper: Its lock file.
        described: What it wrote.
    """
    if described.get("namespaces", {}).get("pid", "") != namespace("pid"):
        return False

    def number() -> int:
        with suppress(OSError, ValueError), open(keeper, encoding="ascii") as file:
            return int(file.read())
        return 0

    if not (pid := number()):
        return False
    send_signal(pid, signal.SIGTERM, lambda: locks.is_held(keeper) and number() == pid)
    return True


def prove(described: Mapping[str, Any], timeout: float) -> None:
    """Connect once: what listens on that port is ours if it knows our password's verifier.

    And look for what the server's earlier life has left, as long as somebody is connected.
    """
    import psycopg

    cluster = os.path.dirname(described["data"])
    try:
        parameters: dict[str, Any] = {
            **libpq.neutral(),
            "hostaddr": ADDRESS,
            "sslmode": "disable",
            "connect_timeout": max(2, int(timeout)),
        }
        with libpq.service_hidden():
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
            f"if its password was changed, remove {cluster} when nobody uses it",
            code="server-locked-out",
        ) from error
    # A server with such files is as good as any: where somebody makes a database just now, a later start clears them.
    with connection, suppress(psycopg.Error, OSError):
        for path in orphan_files.clear(connection, described["data"]):
            _log.info("removed %s: no database has these files", path)

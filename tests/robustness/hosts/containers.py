"""Containers on one machine, as far as elefast sees them: processes in namespaces of their own, with or without a
``/proc``, a memory or a disk of their own.

They are made by ``unshare``, so that no image and no engine is needed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["USER_OF_A_SERVER", "Container", "refused"]

USER_OF_A_SERVER = """
import json, sys
from pathlib import Path
import psycopg
from elefast.providers import LocalProvider, running_servers, server_settings
from elefast.providers.local import processes
given = json.loads(sys.argv[1])
root = given["root"] = Path(given["root"])
lease = None
for line in sys.stdin:
    word, _, argument = line.strip().partition(" ")
    try:
        if word == "acquire":
            lease = LocalProvider(settings=server_settings(), **given).acquire()
            said = {"data": lease.data_dir, "notes": lease.notes}
        elif word == "ask":
            url = lease.url.set(drivername="postgresql").render_as_string(hide_password=False)
            with psycopg.connect(url) as connection:
                said = connection.execute("select pg_postmaster_start_time()::text").fetchone()[0]
        elif word == "servers":
            said = processes.servers_of(argument)
        elif word == "running":
            said = [server.elsewhere for server in running_servers(root)]
        else:
            lease.release()
            said = "released"
    except Exception as error:
        said = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(said), flush=True)
"""


def refused(*namespaces: str) -> str:
    """Why this machine does not let us make such namespaces; empty where it does."""
    if sys.platform != "linux" or os.geteuid() or not all(map(shutil.which, ("unshare", "mount", "setpriv"))):
        return "namespaces need Linux, root and util-linux"
    command = ["unshare", "--mount", *namespaces, "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


class Container:
    """A process in namespaces of its own that uses a server, and does what it is asked to.

    Args:
        namespaces: Options of ``unshare``, besides ``--mount``.
        own: Directories that are its own: a file system in memory is mounted there. After a colon, its size.
        given: To `LocalProvider`.
    """

    def __init__(self, namespaces: Sequence[str], own: Sequence[str] = (), **given: Any) -> None:
        mounts: list[str] = []
        for place in own:
            path, _, size = place.partition(":")
            option = f"mode=0711,size={size}" if size else "mode=0711"
            mounts.append(f"mount -t tmpfs -o {option} tmpfs {shlex.quote(path)}")
        if "--net" in namespaces:
            mounts.append("ip link set lo up")
        given = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
        program = shlex.join([sys.executable, "-c", USER_OF_A_SERVER, json.dumps(given)])
        self._process = subprocess.Popen(
            ["unshare", "--mount", *namespaces, "--fork", "--kill-child", "sh", "-c", " && ".join([*mounts, program])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, what: str) -> Any:
        """Its answer to ``acquire``, ``ask``, ``servers DIRECTORY``, ``running`` or ``release``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._process.stdout.close()

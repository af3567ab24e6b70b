"""What the tests of containers share: providers, processes that hold leases, looking at containers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from elefast.postgres.urls import dsn
from elefast.providers import DockerProvider, Lease, server_settings
from elefast.providers.docker import DockerLease
from elefast.providers.docker.container import OWNER, PROJECT, owner
from elefast.providers.docker.provider import locks_root
from tests.integration.providers import provider_support

CLIENT = """
import json, logging, os, sys
from pathlib import Path
from elefast.providers import DockerProvider, server_settings
given = json.loads(sys.argv[1])
if given.pop("die_before_start", False):
    import signal
    from docker.models.containers import Container
    Container.start = lambda self: os.kill(os.getpid(), signal.SIGKILL)
given["project"] = Path(given["project"])
given.setdefault("settings", server_settings())
print("up", flush=True)
sys.stdin.readline()
try:
    lease = DockerProvider(**given).acquire()
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
    sys.exit(1)
url = lease.url.render_as_string(hide_password=False)
print(json.dumps({"url": url, "container": lease.container, "notes": lease.notes}), flush=True)
sys.stdin.read()
lease.release()
"""


def provider(project: Path, *, reuse: bool = False, **more: Any) -> DockerProvider:
    """A provider as the factory would make it; `project` keeps the containers of a test apart."""
    more.setdefault("settings", server_settings())
    return DockerProvider(reuse=reuse, project=project, **more)


def our_owner() -> str:
    """The label of all containers of this run; it follows from the directory of the run's locks."""
    return owner(locks_root())


def names(client: Any, project: Path | None = None) -> list[str]:
    """The containers of this run, or of one project in it."""
    labels = [f"{OWNER}={our_owner()}", *([f"{PROJECT}={os.path.realpath(project)}"] if project else [])]
    found = client.api.containers(all=True, filters={"label": labels})
    return sorted(one["Names"][0].lstrip("/") for one in found)


def connect(lease: Lease) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection to the maintenance database."""
    return psycopg.connect(dsn(lease.url), autocommit=True)


def ask(lease: Lease, query: str) -> Any:
    """The single value of a query."""
    with connect(lease) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def inside(client: Any, lease: DockerLease, *command: str) -> str:
    """The output of a command in the container."""
    done = client.containers.get(lease.container).exec_run(list(command))
    assert done.exit_code == 0, done.output
    text: str = done.output.decode()
    return text


def lock_files() -> list[str]:
    """What is in the directory of the locks."""
    return sorted(name for _, _, files in os.walk(locks_root()) for name in files)


class Client(provider_support.Client):
    """A process that holds a lease on a container until it is told to stop or killed."""

    def __init__(self, given: Mapping[str, Any], env: Mapping[str, str]) -> None:
        more = {"stderr": subprocess.DEVNULL, "env": {**os.environ, **env}}
        super().__init__(given, sys.executable, program=CLIENT, **more)

    def go(self) -> None:
        """Wait until it has imported everything, then let it begin."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"
        self.process.stdin.write("go\n")
        self.process.stdin.flush()


class Clients:
    """Starts processes that hold leases for one project.

    Args:
        project: Where they work.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        self._started: list[Client] = []

    def start(self, count: int = 1, *, env: Mapping[str, str] | None = None, **given: Any) -> list[Client]:
        """Start some at the same moment; it does not wait for their answers."""
        given = {"project": str(self._project), "reuse": False, **given}
        started = [Client(given, env or {}) for _ in range(count)]
        self._started += started
        for client in started:
            client.go()
        return started

    def __enter__(self) -> Clients:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._started:
            client.close()

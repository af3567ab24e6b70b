"""Runs of pytest on a container in which something is killed at random moments, and the runs after them.

How rounds go, and what repeats one, is in `tests/robustness/crashes/rounds.py`.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from elefast.providers.docker.container import OWNER, PORT, PROJECT
from elefast.providers.docker.inventory import stop_containers
from elefast.providers.docker.sharing import HELD
from tests.integration.docker.container_support import lock_files, names
from tests.robustness.crashes.kills import KILLS, Kill
from tests.robustness.crashes.moments import Moment
from tests.robustness.crashes.monitor import Monitor
from tests.robustness.crashes.places import Place
from tests.robustness.crashes.remains import Configured, leftovers
from tests.robustness.crashes.rounds import Game, Tally, World, play_all
from tests.robustness.crashes.runs import Run

_DURATION = 6.0
"""Seconds that a run takes, about; a container needs one or two to start."""


class DockerPlace:
    """``provider = "docker"``, with a container of somebody else's beside elefast's.

    Args:
        client: Of the engine.
        image: The container's.
        project: The directory of the project.
        reuse: Whether the container stays for the next run.
    """

    directory: Path | None = None

    def __init__(self, client: Any, image: str, project: Path, *, reuse: bool) -> None:
        self.outlives = reuse
        self._client = client
        self._image = image
        self._project = project
        self._monitor = Monitor(self._connect)
        self._locks = lock_files()
        labels = {OWNER: "somebody-else", PROJECT: str(project)}
        name = f"elefast-project-{secrets.token_hex(6)}"
        self._foreign = client.containers.create(image, name=name, labels=labels)
        self._before = self._look()

    @property
    def env(self) -> Mapping[str, str]:
        return {
            "ELEFAST_PROVIDER": "docker",
            "ELEFAST_DOCKER__IMAGE": self._image,
            "ELEFAST_DOCKER__REUSE": str(self.outlives).lower(),
        }

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self._monitor.ask(query)

    def containers(self) -> list[str]:
        """The names of elefast's containers of this project."""
        return names(self._client, self._project)

    def kill(self, name: str, *, remove: bool) -> bool:
        """End a container as somebody does from outside; whether there was one to end."""
        from docker.errors import APIError

        with suppress(APIError):
            if remove:
                self._client.api.remove_container(name, force=True, v=True)
            else:
                self._client.api.kill(name)
            return True
        return False

    def postmaster(self) -> int:
        return 0

    def heal(self) -> None:
        """Nothing: the next run does that."""

    def let_go(self) -> None:
        # One that is reused stays, and so does what says that databases were kept in it.
        if not self.outlives:
            stop_containers()

    def empty(self) -> None:
        stop_containers()

    def left(self, project: Configured) -> list[str]:
        expected = [*self._locks, HELD] if self.outlives else self._locks
        left = [f"lock {name}" for name in lock_files() if name not in expected]
        found = self.containers()
        if not self.outlives:
            return [*left, *found]
        left += [f"{len(found)} containers: {found}"] if len(found) != 1 else []
        return [*left, *leftovers(self.ask, project, set())]

    def touched(self) -> list[str]:
        now = self._look()
        return [] if now == self._before else [f"{self._before}, now {now}"]

    def close(self) -> None:
        self._monitor.close()
        self.empty()
        self._foreign.remove(force=True, v=True)

    def _look(self) -> str:
        self._foreign.reload()
        return f"{self._foreign.name} {self._foreign.id} {self._foreign.status} {self._foreign.attrs['State']}"

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        from docker.errors import APIError

        for name in self.containers():
            with suppress(APIError, psycopg.OperationalError):  # it may be gone by now
                bindings = self._client.containers.get(name).ports.get(PORT)
                if not bindings:
                    continue
                return psycopg.connect(
                    host=bindings[0]["HostIp"].replace("0.0.0.0", "127.0.0.1"),
                    port=bindings[0]["HostPort"],
                    user="postgres",
                    password="elefast",
                    dbname="postgres",
                    autocommit=True,
                    connect_timeout=5,
                )
        raise psycopg.OperationalError("no container yet")


@dataclass(frozen=True)
class ContainerKill(Kill):
    """A kind of kill that ends the container, and not a process of this machine.

    Args:
        remove: Whether it is removed with its volumes, and not only ended.
    """

    remove: bool = False

    def strike(self, run: Run, place: Place, chance: random.Random) -> str:
        assert isinstance(place, DockerPlace)
        done = [place.kill(name, remove=self.remove) for name in place.containers()]
        return self.name if any(done) else ""


class DockerGame(Game):
    """A round on a container; the moments are those of its start more often than not."""

    def moment(self) -> Moment:
        place = self.place
        assert isinstance(place, DockerPlace)
        if self.chance.random() < 0.5:
            return super().moment()
        delay = self.chance.uniform(0, 2)
        return Moment("a container is there", condition=lambda run, _: place.containers(), delay=delay)


def _nobody(run: Run, place: Place) -> Sequence[int]:
    return []


def _with_container(name: str) -> Kill:
    """A kind of kill that is the same wherever the server is."""
    (kill,) = [kill for kill in KILLS if kill.name == name]
    return replace(kill, what=f"{kill.what}, with a container", how=f"{kill.how}, mostly while the container starts")


_AT = "at a random moment, mostly while it starts"
_KILLS = [
    ContainerKill("docker kill", "a container killed", f"docker kill {_AT}", _nobody),
    ContainerKill("docker rm", "a container removed", f"docker rm --force {_AT}", _nobody, remove=True),
    *map(_with_container, ("pytest", "worker", "group")),
]
_ROWS = [pytest.param(kill, id=kill.name, marks=pytest.mark.fault(kill.what, how=kill.how)) for kill in _KILLS]


@pytest.mark.parametrize("kill", _ROWS)
def test_kill(
    kill: Kill,
    any_image: str,
    docker_client: Any,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """The next run passes by itself; no container and no lock is left after it, and nothing of others was touched."""

    def open_place(kill: Kill | None, chance: random.Random, directory: Path) -> Place:
        directory.mkdir()
        return DockerPlace(docker_client, any_image, directory / "project", reuse=chance.random() < 0.5)

    tally: Tally = play_all(
        lambda seed, directory: DockerGame(kill, seed, directory, World(open_place, _DURATION)),
        tmp_path,
        f"tests/integration/docker/test_crashes.py::test_kill[{kill.name}]",
    )
    tally.tell(record_property)
    tally.check()

"""The world of the rounds: a server for `provider = "url"`, and a directory with what ``initdb`` makes."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.crashes.foreign import ROLE
from tests.robustness.crashes.forks import Forks
from tests.robustness.crashes.kills import Kill
from tests.robustness.crashes.places import LocalPlace, Place, UrlPlace
from tests.robustness.crashes.project import Project, Variant
from tests.robustness.crashes.rounds import World
from tests.robustness.crashes.runs import Run
from tests.robustness.faults.server import Server

PLAIN = Variant("sql", asyncio=False, workers=0, isolation="database", keep="never", cache=True)


@pytest.fixture(scope="session", autouse=True)
def _linux() -> None:
    """They look into /proc."""
    if sys.platform != "linux":
        pytest.skip("these tests find their victims in /proc")


@pytest.fixture(scope="session")
def forks(elefast_root: Path) -> Iterator[Forks]:
    """Starts runs cheaply, in the environment that runs here have."""
    with Forks.opened() as forks:
        yield forks


@pytest.fixture(scope="session")
def world(elefast_root: Path, forks: Forks) -> Iterator[World]:
    """What the rounds have in common; made with the first one, and gone after the last."""
    home = elefast_root / "crashes"
    home.mkdir(mode=0o711)
    server = Server(home / "server")
    server.start(max_prepared_transactions=5)
    try:
        cached, duration, forked_duration = _warm(home, forks)

        def open_place(kill: Kill | None, chance: random.Random, directory: Path) -> Place:
            directory.mkdir(mode=0o711)
            kinds = kill.places if kill else ("url", "local")
            if chance.choice(kinds) == "url":
                return UrlPlace(server, directory / "caches", chance.choice(["postgres", ROLE]))
            has_cache = chance.random() < 0.8 if kill is None or kill.cached is None else kill.cached
            root = home / f"local-{directory.name}"
            reuse, named = chance.random() < 0.5, chance.random() < 0.2
            return LocalPlace(root, reuse=reuse, cached=cached if has_cache else None, named=named)

        yield World(open_place, duration, forks, forked_duration)
    finally:
        server.stop()
        shutil.rmtree(home)


def _warm(home: Path, forks: Forks) -> tuple[Path, float, float]:
    """A directory with what ``initdb`` made, to be copied from; how long a run takes here, and one that is forked."""
    place = LocalPlace(home / "warm", reuse=True, cached=None)
    project = Project(home / "project", PLAIN)
    durations: list[float] = []
    for version, starter in ((1, None), (2, forks)):
        project.change(version)
        run = Run(project, place.env, f"{home.parent.name}-{version}", place.directory, forks=starter)
        try:
            durations.append(run.end())
            assert run.process.returncode == 0, run.text
            run.vanish()
        finally:
            run.kill()
    cached = home / "cached"
    cached.mkdir(mode=0o711)
    for path in (home / "warm" / "disk").glob("initdb-[0-9][0-9]-*"):
        path.rename(cached / path.name)
    place.close()
    assert any(cached.iterdir())
    return cached, durations[0], durations[1]

"""The places of the runs: a server for `provider = "url"`, and a directory in which elefast starts servers."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.companions.project import Project
from tests.robustness.crashes.places import LocalPlace, Place, UrlPlace
from tests.robustness.faults.server import Server


@pytest.fixture(scope="session", autouse=True)
def _linux() -> None:
    """They look into /proc."""
    if sys.platform != "linux":
        pytest.skip("these tests find processes in /proc")


@pytest.fixture(scope="session")
def home(elefast_root: Path) -> Iterator[Path]:
    """A directory for the places."""
    home = elefast_root / "companions"
    home.mkdir(mode=0o711)
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def url_place(home: Path) -> Iterator[Place]:
    """A server of the tests' own, with databases of others on it."""
    server = Server(home / "server")
    server.start()
    caches = home / "caches"
    caches.mkdir(mode=0o711)
    place = UrlPlace(server, caches, "postgres")
    yield place
    place.close()
    server.stop()


@pytest.fixture(scope="session")
def local_place(home: Path) -> Iterator[Place]:
    """Servers that go with the run; what ``initdb`` made stays for the next one."""
    place = LocalPlace(home / "local", reuse=False, cached=None)
    yield place
    place.close()


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where a project gets its server: on one that is there, or on its own where the test is called with "local"."""
    kind: str = getattr(request, "param", "url")
    place: Place = request.getfixturevalue(f"{kind}_place")
    yield place
    if kind == "url":
        place.empty()


@pytest.fixture
def project(place: Place, tmp_path: Path) -> Iterator[Project]:
    """A project, whose runs end with the test."""
    project = Project(tmp_path / "project", place)
    yield project
    project.close()

"""A private root for every test that starts servers, and proof that nothing is left of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.providers.provider_support import Clients, Installation, installations, processes_below, until


@pytest.fixture
def root() -> Iterator[Path]:
    """Everything that servers of this test make is below it; no process may be left there."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="elefast-test-prov-", dir=memory))
    path.chmod(0o755)
    yield path
    left = until(lambda: not processes_below(path)) or processes_below(path)
    shutil.rmtree(path)
    assert left is True, f"processes left: {left}"


@pytest.fixture
def clients(root: Path) -> Iterator[Clients]:
    """Starts processes that use servers of this test's root, and ends those that still run."""
    with Clients(root) as started:
        yield started


@pytest.fixture(scope="session", params=["system", "wheel"])
def installation(request: pytest.FixtureRequest) -> Installation:
    """Every PostgreSQL on this machine: one of the system and one of a wheel."""
    found = installations().get(request.param)
    if found is None:
        pytest.skip(f"no PostgreSQL of the {request.param}")
    return found


@pytest.fixture(scope="session")
def bin_dir() -> str:
    """Any PostgreSQL on this machine, for what does not depend on its version."""
    return next(iter(installations().values())).bin_dir

"""The project that is edited, and what these tests borrow from those of the migrators."""

from __future__ import annotations

import random
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.integration.migrators.conftest import new_database, new_directory
from tests.robustness.fuzz.fuzz_support import SEED
from tests.robustness.fuzz.world import World

__all__ = ["new_database"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Generator[World]:
    """A project with a library beside it on the import path, as a `.pth` file of an editable install puts it there."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    for name in ("WORLD_NAME", "WORLD_OTHER", "PYTEST_XDIST_WORKER"):
        monkeypatch.setenv(name, "")  # so that whatever becomes of it is undone
        monkeypatch.delenv(name)
    with new_directory() as directory:
        made = World(Path(directory) / "world", random.Random(SEED))
        monkeypatch.setattr(sys, "path", [*sys.path, *made.path[1:]])
        yield made

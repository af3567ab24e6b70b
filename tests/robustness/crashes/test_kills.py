"""Runs of pytest in which something is killed at random moments, and the runs after them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.crashes.kills import KILLS, Kill
from tests.robustness.crashes.rounds import Game, World, play_all

_ROWS = [pytest.param(kill, id=kill.name, marks=pytest.mark.fault(kill.what, how=kill.how)) for kill in KILLS]


@pytest.mark.parametrize("kill", _ROWS)
def test_kill(kill: Kill, world: World, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The next run passes by itself, with the right schema; nothing is left after it, nothing of others was touched."""
    test = f"tests/robustness/crashes/test_kills.py::test_kill[{kill.name}]"
    tally = play_all(lambda seed, directory: Game(kill, seed, directory, world), tmp_path, test)
    tally.tell(record_property)
    tally.check()

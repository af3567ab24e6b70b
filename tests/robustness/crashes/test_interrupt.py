"""Runs of pytest that are interrupted by Ctrl-C at random moments."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.robustness.crashes.rounds import ATTEMPTS, Game, Tally, World, play_all

PROMPT = 20.0
"""Seconds that nobody would wait for; two are wanted, and a machine may have other things to do."""


class Interruption(Game):
    """A round in which a run is interrupted.

    Args:
        seed: Of its randomness.
        directory: A new one for it.
        world: What rounds have in common.
    """

    again = False
    """Whether it is interrupted twice."""

    def __init__(self, seed: int, directory: Path, world: World) -> None:
        super().__init__(None, seed, directory, world)
        self.ending = 0.0
        """Seconds from Ctrl-C until pytest has ended."""
        self.vanishing = 0.0
        """And until its servers have, too."""

    def interrupt(self) -> bool:
        """Interrupt a run, once or twice; whether it was met."""
        moment = self.moment()
        run = self.start(moment, CRASH_FAIL="1") if self.variant.keeps else self.start(moment)
        if not moment.come(run, self.place):
            self.missed += 1
            run.end()
            return False
        self.moments.append(moment.what)
        began = time.monotonic()
        run.interrupt()
        if self.again:
            time.sleep(self.chance.uniform(0, 0.4))
            run.interrupt()
        moment.go_on()
        run.end()
        self.ending = max(self.ending, time.monotonic() - began)
        self.place.let_go()
        run.vanish()
        self.vanishing = max(self.vanishing, time.monotonic() - began)
        self.listen(run, "the run that was interrupted", interrupted=True)
        return True

    def record(self) -> dict[str, Any]:
        times = {"ending": round(self.ending, 2), "vanishing": round(self.vanishing, 2)}
        return {**super().record(), **times, "kill": "interrupt"}

    def play(self) -> bool:
        self.prepare()
        self.vanish()
        met = any(self.interrupt() for _ in range(ATTEMPTS))
        if not self.again:
            self.look()
            self.problems = [("left at once" if kind == "left" else kind, text) for kind, text in self.problems]
            if self.ending > PROMPT:
                self.problems.append(("slow", f"it took {self.ending:.1f} s to end:\n{self.runs[-1].text}"))
        self.passes("the next run")
        self.vanish()
        self.look()
        return met


class Twice(Interruption):
    """A round in which whoever interrupts does not wait for the run to end."""

    again = True


def _played(kind: type[Interruption], test: str, directory: Path, world: World) -> tuple[Tally, list[Interruption]]:
    games: list[Interruption] = []

    def game(seed: int, directory: Path) -> Interruption:
        games.append(kind(seed, directory, world))
        return games[-1]

    return play_all(game, directory, f"tests/robustness/crashes/test_interrupt.py::{test}"), games


@pytest.mark.fault("Ctrl-C once", how="SIGINT at a random moment, to pytest and all that it started")
def test_once(world: World, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The run ends in good order: nothing of it is left, even before the next run."""
    tally, games = _played(Interruption, "test_once", tmp_path, world)
    tally.tell(record_property)
    if not tally.problems:
        ending, vanishing = max(game.ending for game in games), max(game.vanishing for game in games)
        told = f"pytest ended within {ending:.1f} s, its servers within {vanishing:.1f} s; the next run passed"
        record_property("happened", told)
        record_property("left", "nothing, even before the next run")
    tally.check()


@pytest.mark.fault("Ctrl-C twice", how="SIGINT at a random moment, and again within 0.4 s")
def test_twice(world: World, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Whoever does not wait for the run to end has what is left swept by the next one."""
    tally, games = _played(Twice, "test_twice", tmp_path, world)
    tally.tell(record_property)
    if not tally.problems:
        ending = max(game.ending for game in games)
        record_property("happened", f"pytest ended within {ending:.1f} s; the next run passed")
    tally.check()

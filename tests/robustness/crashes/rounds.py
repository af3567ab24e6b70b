"""Rounds: a run of a project that is killed, the next run, and what is found after that.

`TEST_CRASH_ROUNDS` is how many there are of each kind of kill, `TEST_CRASH_SEED` is the seed of the first one, and each
round has the seed after that of the round before: one that failed is repeated by its own seed, as far as time can be.
With `TEST_CRASH_LOG` each round writes a line of JSON into that file.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.robustness.crashes.forks import Forks
from tests.robustness.crashes.kills import Kill
from tests.robustness.crashes.moments import Moment
from tests.robustness.crashes.places import Place, found_at
from tests.robustness.crashes.project import ISOLATIONS, MIGRATORS, WRONG, Project, Variant
from tests.robustness.crashes.runs import HangError, Run

__all__ = ["ROUNDS", "SEED", "Game", "Tally", "World", "play_all"]

ROUNDS = int(os.environ.get("TEST_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("TEST_CRASH_SEED", "0")) or random.randrange(1, 10**9)
ATTEMPTS = 20
"""So often a round tries to meet its victim: a moment may come when there is none, or only after the run."""

FORKED = 0.9
"""The share of rounds in which Python does not start from nothing, which would be most of what a round costs."""

SANE = 45.0
"""Seconds that a run may take which nobody kills; it takes two or three, and a machine may have other things to do."""

_NOISE = re.compile("INTERNALERROR.*/elefast/|Exception in thread|Exception ignored|PytestUn(?:handled|raisable)")


@dataclass
class World:
    """What the rounds of a test run have in common.

    Args:
        open_place: Makes a place, given its kind and the chance of the round.
        duration: Seconds that a run takes here, about.
        forks: Starts most of the runs; None where that is not worth it.
        forked_duration: Seconds that one of these takes.
    """

    open_place: Callable[[Kill | None, random.Random, Path], Place]
    duration: float
    forks: Forks | None = None
    forked_duration: float = 0.0


@dataclass
class Tally:
    """What the rounds of one kind came to."""

    struck: int = 0
    missed: int = 0
    longest: float = 0.0
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def add(self, game: Game, test: str) -> None:
        """What became of a round of `test`."""
        again = f"TEST_CRASH_SEED={game.seed} TEST_CRASH_ROUNDS=1 pytest '{test}'"
        self.missed += game.missed
        self.longest = max(self.longest, game.seconds)
        self.problems += [(what, f"{again}\n{game.variant} {game.moments}\n{text}") for what, text in game.problems]

    def tell(self, record_property: Callable[[str, object], None]) -> None:
        """Write the row of the table of faults."""
        record_property("times", self.struck)
        kinds = Counter(kind for kind, _ in self.problems)
        bad = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        good = f"the next run passed, after {self.longest:.1f} s at the most; no template was wrong, nobody hung"
        record_property("happened", bad or good)
        left = [text for kind, text in self.problems if kind == "left"]
        record_property("left", "\n".join(left) or "nothing after that run, and nothing of others was touched")

    def check(self) -> None:
        """Fail with all that went wrong."""
        assert self.struck, f"never met a victim in {self.missed} attempts"
        assert not self.problems, "\n\n".join(f"== {kind}: {text}" for kind, text in self.problems)


class Game:
    """One round.

    Args:
        kill: Its kind; None where it does something else.
        seed: Of its randomness.
        directory: A new one for it.
        world: What rounds have in common.
    """

    def __init__(self, kill: Kill | None, seed: int, directory: Path, world: World) -> None:
        self.kill = kill
        self.seed = seed
        self.chance = random.Random(f"{seed} {kill.name if kill else ''}")
        self.world = world
        self.directory = directory
        self.variant = Variant.draw(
            self.chance,
            workers=kill.workers if kill else None,
            migrators=kill.migrators if kill else MIGRATORS,
            isolations=kill.isolations if kill else ISOLATIONS,
        )
        self.forks = world.forks if self.chance.random() < FORKED else None
        self.place = world.open_place(kill, self.chance, directory)
        self.project = Project(directory / "project", self.variant)
        self.runs: list[Run] = []
        self.moments: list[str] = []
        self.problems: list[tuple[str, str]] = []
        self.seconds = 0.0
        self.missed = 0

    def start(self, moment: Moment | None = None, **env: str) -> Run:
        """Start a run."""
        variables = {**self.place.env, **env, **(moment.env if moment else {})}
        run = Run(self.project, variables, secrets.token_hex(8), self.place.directory, forks=self.forks)
        self.runs.append(run)
        return run

    def prepare(self) -> None:
        """Often there is something from an earlier run, and often not of the same schema."""
        needs_empty = self.kill is not None and self.kill.cached is False
        if not needs_empty and self.chance.random() < 0.35:
            self.passes("the run before the kill")
            if self.chance.random() < 0.7:
                self.project.change(2)

    def attack(self) -> bool:
        """Kill one run; whether it met its victim. One that was not killed itself ends by itself."""
        if self.kill is not None and self.kill.builds:
            self.change()
        if self.kill is not None and self.kill.cached is False and self.runs:
            self.vanish()
            self.place.empty()
        moment = self.moment()
        run = self.start(moment, CRASH_FAIL="1") if self.variant.keeps else self.start(moment)
        how = self._strike(moment, run) if moment.come(run, self.place) else ""
        moment.go_on()
        if how:
            self.moments.append(f"{how} {moment.what}")
        else:
            self.missed += 1
        self.place.heal()
        run.end()
        self.listen(run, "the killed run" if how else "a run that was not met")
        return bool(how)

    def moment(self) -> Moment:
        """The moment of the next attempt."""
        if self.kill is not None and self.kill.fleeting and self.chance.random() < 0.8:
            return Moment.of(self.kill, self.chance)
        return Moment.draw(
            self.chance,
            self.variant,
            local=self.place.directory is not None,
            duration=self.world.forked_duration if self.forks else self.world.duration,
            mark=self.directory / f"mark-{len(self.runs)}",
        )

    def _strike(self, moment: Moment, run: Run) -> str:
        assert self.kill is not None
        kill, found = self.kill, [""]
        began = time.monotonic()
        while not found[-1] and not run.ended:
            found.append(kill.strike(run, self.place, self.chance))
            if time.monotonic() - began > 0.2:
                moment.go_on()  # whoever waits there may be what keeps the victim from being there
            time.sleep(0.002)
        return found[-1]

    def passes(self, what: str) -> None:
        """Run the tests, and see that they pass and that nobody waits for long."""
        run = self.start()
        seconds = run.end()
        self.seconds = max(self.seconds, seconds)
        self.listen(run, what)
        if run.process.returncode:
            self.problems.append(("not passed", f"{what}:\n{run.text}"))
        if seconds > SANE:
            self.problems.append(("slow", f"{what} took {seconds:.1f} s:\n{run.text}"))

    def listen(self, run: Run, what: str, *, interrupted: bool = False) -> None:
        """Look for what no run may say, whatever became of it.

        What an interrupt ends Python itself may tell of; a callback of a weak reference, for one.
        """
        text = run.text
        if WRONG in text:
            self.problems.append(("wrong", f"{what}:\n{text}"))
        if _NOISE.search(text) and not interrupted:
            self.problems.append(("noise", f"{what}:\n{text}"))

    def change(self) -> None:
        """Let the project's schema be another one, which may have been there before."""
        self.project.change(self.chance.choice([number for number in (1, 2, 3) if number != self.project.version]))

    def vanish(self) -> None:
        """Wait until nobody of any run is left."""
        for run in self.runs:
            if run.ended:
                # What runs on for a look at kept databases is ended by hand, once its run is over.
                self.place.let_go()
            run.vanish()

    def look(self) -> None:
        """See what is left, and that nothing of others was touched."""
        left, touched = found_at(self.place, self.project)
        if left:
            self.problems.append(("left", "\n".join(left)))
        if touched:
            self.problems.append(("touched", "\n".join(touched)))

    def play(self) -> bool:
        """The whole round; whether its victim was met."""
        self.prepare()
        times = 2 if self.chance.random() < 0.15 else 1
        struck = 0
        for _ in range(ATTEMPTS):
            if struck < times:
                struck += self.attack()
        if self.chance.random() < 0.4:
            self.change()
        if self.chance.random() < 0.6:
            self.vanish()
        # Processes that are still at work when it begins may have what it cannot sweep: then the run after it does.
        at_work = any(run.family() for run in self.runs)
        self.passes("the next run")
        if at_work:
            self.vanish()
            self.passes("the run after the next")
        self.vanish()
        self.look()
        return bool(struck)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Note what hangs, end everything, and write down what happened."""
        try:
            yield
        except HangError as error:
            self.problems.append(("hang", str(error)))
        finally:
            self._end()

    def _end(self) -> None:
        for run in self.runs:
            run.kill()
        with suppress(OSError):  # the supervisors of what was killed may clear up there at the same time
            self.place.close()
        if not self.problems:
            shutil.rmtree(self.directory)
        if file := os.environ.get("TEST_CRASH_LOG"):
            with Path(file).open("a") as log:
                log.write(json.dumps(self.record()) + "\n")

    def record(self) -> dict[str, Any]:
        """What is written down of it."""
        return {
            "kill": self.kill.name if self.kill else "",
            "seed": self.seed,
            "variant": str(self.variant),
            "place": type(self.place).__name__,
            "outlives": self.place.outlives,
            "forked": self.forks is not None,
            "moments": self.moments,
            "missed": self.missed,
            "seconds": round(self.seconds, 2),
            "runs": [round(run.seconds, 2) for run in self.runs],
            "problems": self.problems,
        }


def play_all(game: Callable[[int, Path], Game], directory: Path, test: str) -> Tally:
    """All rounds of one kind.

    Args:
        game: Makes a round, from its seed and its directory.
        directory: For all of them.
        test: The node id of the test, for whoever repeats a round.
    """
    print(f"TEST_CRASH_SEED={SEED} TEST_CRASH_ROUNDS={ROUNDS}")
    tally = Tally()
    for number in range(ROUNDS):
        one = game(SEED + number, directory / str(number))
        with one.guarded():
            tally.struck += one.play()
        tally.add(one, test)
    return tally

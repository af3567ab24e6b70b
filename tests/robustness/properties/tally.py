"""What came of the examples of a property: how many there were, and that whatever can come of one has come of some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

__all__ = ["ENOUGH", "Tally"]

ENOUGH = 25
"""Of so many examples a property promises that each of its outcomes is among them."""


class Tally:
    """Counts outcomes, in the words that the table of faults has for them."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()

    def add(self, outcome: str) -> None:
        """Note what came of an example."""
        self._outcomes[outcome] += 1

    def tell(self, note: Callable[[tuple[str, object]], None]) -> None:
        """Give the properties of a row of the table of faults."""
        note(("times", self._outcomes.total()))
        note(("happened", "; ".join(f"{count:,} times: {outcome}" for outcome, count in self._outcomes.most_common())))

    def check(self, promised: tuple[str, ...], rare: tuple[str, ...] = ()) -> None:
        """See that the examples meant something: what was promised has happened, and nothing else but what is rare."""
        assert self._outcomes, "no example came to its end"
        assert self._outcomes.keys() <= {*promised, *rare}, self._outcomes
        if self._outcomes.total() >= ENOUGH:
            assert self._outcomes.keys() >= set(promised), self._outcomes

"""Which states the coming tests will ask a pool for, and so which databases are worth making, keeping and dropping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["PoolDemand"]


class PoolDemand:
    """The demand on one pool, used under the pool's lock.

    Without a list of coming tests, it expects that the next tests ask for what the last one asked for.

    Args:
        size: How many databases are kept ready.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._last = ""
        self._upcoming: Sequence[str] = ()
        self._known: dict[str, None] = {}
        """The states that were asked for. No other one is made ahead, because its template may have to be built."""
        self.next = ""
        """The state that the next test asks for."""
        self._window: tuple[str, ...] = ()
        """The states of the next tests, as many as databases are kept ready."""
        self._states: frozenset[str] = frozenset()

    def ask(self, state: str, upcoming: Sequence[str]) -> None:
        """Note that a test asks for `state`, and what the tests after it will ask for, as far as that is known."""
        if state == self._last and not upcoming and not self._upcoming and self._window:
            return
        self._last, self._upcoming = state, upcoming
        self._known[state] = None
        coming = [one for one in upcoming if one in self._known] or [state]
        self.next = coming[0]
        self._window = tuple(coming[: self._size]) if upcoming else (state,) * self._size
        self._states = frozenset((state, *coming)) if upcoming else frozenset(self._known)

    @property
    def knows_one(self) -> bool:
        """Whether no test has asked for a second state so far."""
        return len(self._known) < 2

    @property
    def is_single(self) -> bool:
        """Whether all tests ask for the same state."""
        return len(self._states) < 2

    @property
    def capacity(self) -> int:
        """How many databases may be idle: where tests use several states, also one for each of them."""
        return self._size if self.is_single or not self._size else self._size + len(self._states)

    def lacking(self, have: Mapping[str, int], *, expects_reset: bool) -> str | None:
        """The first state of which the next tests need more databases than there are; None where there is none.

        Args:
            have: How many databases of each state are ready or will be soon, such as those that tests have now.
            expects_reset: Whether a database is ready again soon after its test.
        """
        needed = Counter(self._window)
        # Two databases of a state serve any number of tests in turn, if each is reset while the other is in use.
        most = 2 if expects_reset and len(needed) > 1 else self._size
        return next((state for state in self._window if have.get(state, 0) < min(needed[state], most)), None)

    def least_needed(self, idle: Sequence[str], but: str | None = None, *, urgent: bool = False) -> int | None:
        """The index of the idle database whose state is needed last; None where each has to stay.

        Args:
            idle: The states of the idle databases.
            but: A state whose databases stay.
            urgent: Whether one that a test needs soon may go.
        """
        needed = Counter(self._window)
        found: tuple[int, int] | None = None
        have: Counter[str] = Counter()
        for index, state in enumerate(idle):
            have[state] += 1
            if state == but or (have[state] <= needed[state] and not urgent):
                continue
            until = self._upcoming.index(state) if state in self._upcoming else len(self._upcoming) + index + 1
            if found is None or until > found[0]:
                found = until, index
        return found[1] if found is not None else None

    def uses(self, state: str) -> bool:
        """Whether coming tests ask for `state`, so that a database of it is worth a reset."""
        return state in self._states

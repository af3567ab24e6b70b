"""Databases made ahead of the tests, and put back or dropped behind them, by two threads with a session each.

The test pays for connecting, not for copying; and where the next database comes connected, not for that either.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from elefast.databases.manager import Control
from elefast.databases.pool_scheduler import Pace
from elefast.databases.preconnect import Ahead
from elefast.databases.recycler import Returns
from elefast.errors import ElefastError
from elefast.postgres.connections import watchdog
from elefast.postgres.connections.maintenance_session import Session
from elefast.runtime import clock
from elefast.runtime.signals import unlock

__all__ = ["Pool"]

_log = logging.getLogger("elefast")

_CONNECTED = 2
"""So many of those that come back may be connected to before a test has them; others are connected to one by one.
They have a connection anyway, and each one closed is one more to open."""

_THREADS = 2
"""Clones and drops are work for different cores; one behind the other, they are late for quick tests."""


class Pool:
    """Databases of one control, kept ready.

    Nothing is made ahead, and no thread started, before a second database is asked for: one test alone is not
    made to pay for others.

    Args:
        control: Makes them.
        returns: Sees to those that tests have had.
        size: How many are kept ready.
        limit: How many may live at once, ready, in use and given back.
        ahead: Connects to the database that comes next; None where nobody connects ahead.
        has_room: Whether there is space for a database that nobody has asked for yet.
    """

    def __init__(
        self,
        control: Control,
        returns: Returns,
        *,
        size: int,
        limit: int,
        ahead: Ahead | None = None,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._control = control
        self._returns = returns
        self._size = size
        self._limit = limit
        self._ahead = ahead
        self._has_room = has_room
        self._ready: deque[str] = deque()
        self._returned: deque[tuple[str, str]] = deque()
        self._in_use: set[str] = set()
        self._busy = 0
        """Databases that are being made, or seen to after a test, at this moment."""
        self._making = 0
        """Those of them that nobody has asked for yet."""
        self._comes_back = returns.may_come_back and size > 0
        """Whether a database that is given back is to be counted on: the last one came back."""
        self._asked = 0
        self._pace = Pace()
        self._life = control.session.connects
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        """Told to whoever waits for a database."""
        self._work = threading.Condition(lock)
        """Told to the threads."""
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._sessions: list[Session] = []
        """One for each thread."""

    def checkout(self) -> tuple[str, bool]:
        """A database for a test, and whether it was ready.

        Raises:
            ElefastError: It could not be made, or `limit` databases are in use.
        """
        self._control.session.confirm()
        with self._changed:
            self._asked += 1
            self._pace.ask()
            if self._life != self._control.session.connects:
                # The run was taken for dead in between, so what was ready may be gone.
                self._life = self._control.session.connects
                self._returned.extend((name, "") for name in self._ready)
                self._ready.clear()
            self._wake()
            start = clock.now()
            while not self._ready and self._living >= self._limit:
                if not self._threads and self._see_to_one(self._control.session):
                    continue
                if not (self._returned or self._busy):
                    raise ElefastError(
                        f"{len(self._in_use)} databases are in use at once, and pool.max = {self._limit} allows no "
                        "more. Drop some, or raise pool.max.",
                        code="pool-exhausted",
                    )
                self._changed.wait()
            while (patience := self._patience(start)) > 0:
                self._changed.wait(patience)
            if self._ready:
                name = self._ready.popleft()
                self._in_use.add(name)
                self._wake()
                return name, True
            self._busy += 1
        name = ""
        try:
            name = self._new(self._control.session)
        finally:
            with self._changed:
                self._busy -= 1
                if name:
                    self._in_use.add(name)
                self._wake()
        return name, False

    def release(self, name: str, test: str) -> bool:
        """Have a database seen to, in the background; False where it is not one of the pool's."""
        with self._changed:
            if name not in self._in_use:
                return False
            self._in_use.discard(name)
            self._returned.append((name, test))
            self._pace.give_back()
            self._wake()
            return True

    def forget(self, name: str) -> None:
        """Let go of a database that somebody else takes care of."""
        self._returns.forget(name)
        with self._changed:
            self._in_use.discard(name)
            self._wake()

    def close(self, *, drop: bool = True) -> list[str]:
        """Stop the threads, and see to what was given back; the names of those that were ready, which stay.

        Args:
            drop: Drop what was given back. Without, it is only looked at for what was left open on it.
        """
        unlock(self._changed)
        with self._changed:
            self._closing, self._returns.drops = True, drop
            for session in (*self._sessions, self._control.session):
                session.give_up()  # also the control's: the threads may be waiting for it
            # All: a `notify` that was interrupted leaves somebody in line who waits no more, and is told in vain.
            self._changed.notify_all()
            self._work.notify_all()
        for thread in self._threads:
            thread.join()
        if self._returned:
            with suppress(Exception):  # what is seen to next tells of a connection that is gone
                self._control.session.settle()
        while self._see_to_one(self._control.session):
            pass
        # The next one last: somebody is connected to it, and takes a moment to be gone.
        self._ready.rotate(-1)
        ready = list(self._ready)
        self._ready.clear()
        for name in ready:
            self._let_go(name)
        return ready

    @property
    def _living(self) -> int:
        return len(self._ready) + len(self._returned) + len(self._in_use) + self._busy

    def _patience(self, start: float) -> float:
        """Seconds that are worth waiting for a database that is being put back; none where one is ready.

        Args:
            start: When it was asked for.
        """
        if not self._ready:
            return self._pace.until_new(start) if self._coming else 0.0
        # One that is ready and not connected costs about half of what it takes to put one back, which comes connected.
        return self._pace.until_back() if self._unconnected and self._comes_back else 0.0

    @property
    def _coming(self) -> int:
        """How many databases are likely to be ready soon, as they were given back and need only be put back."""
        return self._pace.under_way + len(self._returned) if self._comes_back and self._threads and self._size else 0

    @property
    def _wants_more(self) -> bool:
        enough = len(self._ready) + self._coming >= self._size
        return not enough and self._living < self._limit and self._has_room()

    @property
    def _unconnected(self) -> bool:
        """Whether the next database is there, and could be connected to ahead."""
        ahead = self._ahead
        return ahead is not None and ahead.wanted and bool(self._ready) and not ahead.has(self._ready[0])

    @property
    def _to_connect(self) -> bool:
        """Whether the next database is to be connected to; what is being put back comes connected."""
        return self._unconnected and not self._coming

    @property
    def _rest(self) -> float:
        """Seconds for which the threads had better do nothing, as a test begins and has what it needs."""
        if not self._ready or self._closing:
            return 0.0
        return self._pace.rest(self._pace.seeing + (0 if self._comes_back else self._pace.making))

    def _wake(self) -> None:
        """Have everybody look again at what has changed."""
        if len(self._threads) < _THREADS and self._asked > 1 and not self._closing:
            for work in (self._make, self._drop)[len(self._threads) :]:
                session = self._control.helper("pool")
                thread = threading.Thread(target=work, args=(session,), name="elefast-pool", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # there are too many; perhaps not any more when we come here again
                    _log.info("the pool has %d threads: %s", len(self._threads), error)
                    break
                self._sessions.append(session)
                self._threads.append(thread)
            else:
                watchdog.start()
        self._changed.notify_all()
        # Where there is time, one of them does it all: each that wakes up interrupts the test.
        both = self._rest <= 0 or self._to_connect or self._wants_more
        self._work.notify(2 if both else 1)

    def _begins(self, work: bool) -> bool:
        """Whether a thread that has `work` is to begin with it; if not, it has waited for something to change."""
        rest = self._rest
        if work and rest <= 0:
            return True
        self._work.wait(rest if work else None)
        return False

    def _make(self, session: Session) -> None:
        """The thread that makes databases, and connects to the next one; with nothing to make, it helps the other."""
        try:
            while self._make_one(session):
                pass
            while session.is_open and self._see_to_one(session):
                pass
        finally:
            session.close()

    def _make_one(self, session: Session) -> bool:
        """Wait until something is to be done, and do it; False at the end."""
        with self._changed:
            while True:
                if self._closing:
                    return False
                connects = self._ahead if self._to_connect else None
                makes = connects is None and self._wants_more
                if self._begins(connects is not None or makes or bool(self._returned)):
                    break
            next_one = self._ready[0] if connects is not None else ""
            # At once: whoever takes the database from now on waits for what is made for it.
            slot = connects.reserve(next_one) if connects is not None else None
            self._busy += makes
            self._making += makes
        if connects is not None and slot is not None:
            connects.prepare(next_one, slot)
        elif makes:
            self._make_ready(session)
        else:
            self._see_to_one(session)
        return True

    def _make_ready(self, session: Session) -> None:
        name = ""
        try:
            name = self._new(session)
        except Exception as error:
            self._give_up(error)
        with self._changed:
            self._busy -= 1
            self._making -= 1
            if name:
                self._ready.append(name)
            self._wake()

    def _new(self, session: Session) -> str:
        start = clock.now()
        name, template = self._control.make(session=session)
        self._pace.making = clock.now() - start
        self._returns.note(name, template, session)
        return name

    def _drop(self, session: Session) -> None:
        """The thread that puts back or drops what was given back."""
        try:
            while True:
                with self._changed:
                    while not (self._closing or self._begins(bool(self._returned))):
                        pass
                    if self._closing and not session.is_open:
                        return  # at the end nobody connects any more; whoever closes sees to the rest
                if not self._see_to_one(session) and self._closing:
                    return
        finally:
            session.close()

    def _see_to_one(self, session: Session) -> bool:
        """See to one database that was given back; False where there is none."""
        with self._changed:
            if not self._returned:
                return False
            name, test = self._returned.popleft()
            # With the one that a test has now there are as many as the pool is to have.
            others = len(self._ready) + self._pace.under_way + self._making
            wanted = 0 < self._size >= others and not self._closing
            ahead = self._ahead
            if ahead is not None and (not ahead.wanted or sum(map(ahead.has, self._ready)) >= _CONNECTED):
                ahead = None
            self._busy += 1
            begun = self._pace.begin()
        back = ""
        try:
            self._let_go(name)
            back = self._returns.see_to(name, test, session, wanted=wanted, ahead=ahead)
        except Exception as error:
            self._give_up(error)
            with self._changed:
                if self._closing:
                    self._returned.appendleft((name, test))
        with self._changed:
            self._busy -= 1
            self._pace.end(begun, back=bool(back))
            if wanted:
                self._comes_back = bool(back)
            if back:
                # The one that is connected is the next.
                (self._ready.append if ahead is None else self._ready.appendleft)(back)
            self._wake()
        return session.is_open or not self._closing

    def _let_go(self, name: str) -> None:
        if self._ahead is not None:
            self._ahead.close(name)

    def _give_up(self, error: Exception) -> None:
        # Whoever asks for a database next meets the same error, and can say so; the sweep drops the rest.
        _log.info("the pool gives up: %s", error)
        self._size = 0

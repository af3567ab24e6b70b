"""The pool: databases made before tests ask for them, and reset or dropped after the tests, by two threads.

    checkout ──► idle? ── yes ──► hand it out
                  │ no
                  ▼
        wait for one that is being reset, or make one now

    release ──► used ──► (thread) ──► look for leaks ──► reset ──► idle
                                                         └─ not possible, or not needed ──► drop

Each thread has a maintenance session, so that making and recycling go on side by side. A test waits for neither.
Databases of several states (`elefast.databases.pool_demand`) share the limits of one pool.
The pool makes no spare database, and starts no thread, before a second database is asked for: a run of one test must
not pay for others.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from elefast.databases.manager import DatabaseManager
from elefast.databases.pool_demand import PoolDemand
from elefast.databases.pool_scheduler import PoolScheduler
from elefast.databases.preconnect import Preconnector
from elefast.databases.report import Leak
from elefast.databases.resetter import DatabaseResetter
from elefast.errors import ElefastError
from elefast.postgres.connections import watchdog
from elefast.postgres.connections.maintenance_session import GRACE, MaintenanceSession
from elefast.postgres.connections.retained_session import RetainedSession
from elefast.postgres.drop_blockers import DropBlocker, Leftover, UncountedChanges
from elefast.runtime import clock
from elefast.runtime.signals import unlock

__all__ = ["DatabasePool", "PoolState", "leaks_of"]

_log = logging.getLogger("elefast")

_CONNECTED = 2
"""How many databases that were reset may keep a connection for their next test; others are connected to one by one.
The reset has opened the connection anyway, and each one that is closed has to be opened again."""

_THREADS = 2
"""Copying and dropping use different cores of the server; one after the other, they are late for quick tests."""


class PoolState(NamedTuple):
    """What a pool has at one moment; for tests of the pool, and for debugging.

    Args:
        idle: The databases that are ready, in the order in which tests get them.
        used: The databases that tests have released and that are not yet recycled.
        busy: How many databases are being made or recycled.
        size: How many databases the pool keeps ready; 0 after an error of the server.
        threads: How many threads it has.
    """

    idle: tuple[str, ...]
    used: tuple[str, ...]
    busy: int
    size: int
    threads: int

    @property
    def is_quiet(self) -> bool:
        """Whether the threads have nothing to recycle and make nothing."""
        return not (self.used or self.busy)


class DatabasePool:
    """The databases of one manager, kept ready for tests.

    Args:
        manager: Makes and drops them.
        size: How many are kept ready.
        limit: How many may exist at once: idle, in use and used.
        resetter: Resets databases after their tests; None where each is dropped.
        preconnector: Connects to the database that the next test gets; None where tests connect by themselves.
        has_room: Whether the disk has room for a database that no test has asked for yet.
        inspect: Called with a session before a database is recycled, to see what its test changed beside it.
    """

    def __init__(
        self,
        manager: DatabaseManager,
        *,
        size: int,
        limit: int,
        resetter: DatabaseResetter | None = None,
        preconnector: Preconnector | None = None,
        has_room: Callable[[], bool] = lambda: True,
        inspect: Callable[[MaintenanceSession], None] = lambda session: None,
    ) -> None:
        self._manager = manager
        self._resetter = resetter
        self._preconnector = preconnector
        self._size = size
        self._limit = limit
        self._has_room = has_room
        self._inspect = inspect
        self._idle: deque[str] = deque()
        self._in_use: set[str] = set()
        self._used: deque[tuple[str, str]] = deque()
        """Databases that were released, each with its test."""
        self._leaks: list[Leak] = []
        self._states: dict[str, str] = {}
        """The scenario that each database started from."""
        self._demand = PoolDemand(size)
        self._unneeded: set[str] = set()
        """Databases in `_used` that make room for one of another state."""
        self._soon: Counter[str] = Counter()
        """How many databases of each state are being made ahead or reset at this moment."""
        self._busy = 0
        """How many databases are being made, or recycled, at this moment."""
        self._making = 0
        """How many of them no test has asked for yet."""
        self._expects_reset = resetter is not None and size > 0
        """Whether a database that is released is likely to be reset: the last one was."""
        self._asked = 0
        self._scheduler = PoolScheduler()
        self._connection_count = manager.session.connection_count
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        """Notified for tests that wait for a database."""
        self._work = threading.Condition(lock)
        """Notified for the threads."""
        self._closing = False
        self._drops = True
        """Whether a database that is not reset is dropped. At the end of a server it is only searched for leaks."""
        self._threads: list[threading.Thread] = []
        self._sessions: list[MaintenanceSession] = []
        """One for each thread."""

    # -- for tests ------------------------------------------------------------------------------------------

    def checkout(self, state: str = "", upcoming: Sequence[str] = ()) -> tuple[str, bool]:
        """A database for a test, and whether it was ready.

        Args:
            state: The scenario that it starts from.
            upcoming: The scenarios of the tests after this one, as far as they are known.

        Raises:
            ElefastError: It could not be made, or `limit` databases are in use.
        """
        self._manager.session.check_connection()
        with self._changed:
            self._asked += 1
            self._scheduler.ask()
            self._demand.ask(state, upcoming)
            if self._connection_count != self._manager.session.connection_count:
                # While this run had no connection its lock was free, so a sweep may have dropped the idle databases.
                self._connection_count = self._manager.session.connection_count
                self._used.extend((name, "") for name in self._idle)
                self._idle.clear()
            self._wake()
            start = clock.now()
            while self._ready(state) is None and self._existing >= self._limit:
                if not self._threads and self._recycle_one(self._manager.session):
                    continue
                if not (self._used or self._busy or self._evict(state, urgent=True)):
                    raise ElefastError(
                        f"{len(self._in_use)} databases are in use at once, and pool.max = {self._limit} allows no "
                        "more. Drop some, or raise pool.max.",
                        code="pool-exhausted",
                    )
                if self._threads or not self._used:
                    self._changed.wait()
            while (seconds := self._worth_waiting(start, state)) > 0:
                self._changed.wait(seconds)
            if (ready := self._ready(state)) is not None:
                name = ready
                self._idle.remove(name)
                self._in_use.add(name)
                self._wake()
                return name, True
            self._busy += 1
        name = ""
        try:
            name = self._create(self._manager.session, state)
        finally:
            with self._changed:
                self._busy -= 1
                if name:
                    self._in_use.add(name)
                self._wake()
        return name, False

    def release(self, name: str, test: str) -> bool:
        """Have database `name` of `test` recycled in the background; False where it is not one of the pool's."""
        with self._changed:
            if name not in self._in_use:
                return False
            self._in_use.discard(name)
            self._used.append((name, test))
            self._scheduler.release()
            self._wake()
            return True

    def discard(self, name: str) -> bool:
        """Have database `name`, which no test has, dropped in the background; False where the caller has to do it."""
        with self._changed:
            if not self._threads or self._closing or len(self._used) >= self._size:
                return False
            self._used.append((name, ""))
            self._wake()
            return True

    def forget(self, name: str) -> None:
        """Stop counting database `name`, which the caller keeps or drops."""
        if self._resetter is not None:
            self._resetter.forget(name)
        with self._changed:
            self._in_use.discard(name)
            self._states.pop(name, None)
            self._wake()

    def take_leaks(self) -> list[Leak]:
        """The leaks that the threads have found since this was last called."""
        with self._changed:
            found, self._leaks = self._leaks, []
        return found

    def state(self) -> PoolState:
        """What the pool has at this moment."""
        with self._changed:
            used = tuple(name for name, _ in self._used)
            return PoolState(tuple(self._idle), used, self._busy, self._size, len(self._threads))

    def wait_until(self, condition: Callable[[PoolState], bool], seconds: float) -> bool:
        """Wait until `condition` holds for the pool's state, for at most `seconds`; whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.state()), seconds)

    def close(self, *, drop: bool = True) -> list[str]:
        """Stop the threads, and recycle what was released; the names of the idle databases, which stay.

        Args:
            drop: Drop what was released. Without, it is only searched for leaks.
        """
        unlock(self._changed)
        with self._changed:
            self._closing, self._drops = True, drop
            for session in (*self._sessions, self._manager.session):
                session.stop_reconnecting()  # also the manager's: the threads may be waiting for it
            # All: an interrupted `notify` leaves a waiter in the queue that waits no more, and would wake it in vain.
            self._changed.notify_all()
            self._work.notify_all()
        for thread in self._threads:
            thread.join()
        if self._used:
            with suppress(Exception):  # the recycling that follows reports a connection that is gone
                self._manager.session.reconnect_once()
        while self._recycle_one(self._manager.session):
            pass
        # The database that is connected to goes last, because its backend needs a moment to exit.
        self._idle.rotate(-1)
        idle = list(self._idle)
        self._idle.clear()
        for name in idle:
            self._disconnect(name)
        return idle

    def by_state(self, names: Sequence[str]) -> dict[str, list[str]]:
        """The databases of `names` by the scenario that they start from."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self._states.get(name, ""), []).append(name)
        return found

    # -- what is worth doing --------------------------------------------------------------------------------

    def _ready(self, state: str) -> str | None:
        """The idle database that the next test with `state` gets."""
        return next((name for name in self._idle if self._states.get(name, "") == state), None)

    @property
    def _next_idle(self) -> str | None:
        """The idle database that the next test is likely to get."""
        return self._ready(self._demand.next)

    def _evict(self, state: str, *, urgent: bool = False) -> bool:
        """Have an idle database of another state dropped that makes room for one of `state`; whether there was one.

        Args:
            state: The state that needs the room.
            urgent: Whether a database that a test needs soon may go.
        """
        idle = [self._states.get(name, "") for name in self._idle]
        index = self._demand.least_needed(idle, state, urgent=urgent)
        if index is None:
            return False
        name = self._idle[index]
        del self._idle[index]
        self._unneeded.add(name)
        self._used.append((name, ""))
        self._wake()
        return True

    @property
    def _existing(self) -> int:
        return len(self._idle) + len(self._used) + len(self._in_use) + self._busy

    def _worth_waiting(self, start: float, state: str) -> float:
        """Seconds that are worth waiting for a database that is being reset; 0 where one is idle.

        Args:
            start: When the test asked for a database.
            state: The state that it asked for.
        """
        if self._ready(state) is None:
            return self._scheduler.until_made(start) if self._resetting_of(state) else 0.0
        # An idle database without a connection costs about half of what a reset takes, and that comes connected.
        return self._scheduler.until_reset() if self._unconnected and self._expects_reset else 0.0

    @property
    def _resetting(self) -> int:
        """How many databases are likely to be idle soon, because they were released and need only be reset."""
        if not (self._expects_reset and self._threads and self._size):
            return 0
        return self._scheduler.under_way + len(self._used) - len(self._unneeded)

    def _resetting_of(self, state: str) -> int:
        """How many of them are of one state."""
        if not self._resetting:
            return 0
        return self._soon[state] + sum(
            self._states.get(name, "") == state and name not in self._unneeded for name, _ in self._used
        )

    @property
    def _lacking(self) -> str | None:
        """The state of which a database is worth making ahead; None where there is none."""
        if not self._size or self._existing >= self._limit:
            return None
        if self._demand.knows_one:
            enough = len(self._idle) + self._resetting >= self._size
            return None if enough or not self._has_room() else self._demand.next
        have = Counter(self._states.get(name, "") for name in self._idle)
        if self._resetting:
            have.update(self._soon)
            have.update(self._states.get(name, "") for name, _ in self._used if name not in self._unneeded)
        if self._expects_reset:
            have.update(self._states.get(name, "") for name in self._in_use)
        lacking = self._demand.lacking(have, expects_reset=self._expects_reset)
        return lacking if lacking is not None and self._has_room() else None

    @property
    def _wants_more(self) -> bool:
        return self._lacking is not None

    @property
    def _unconnected(self) -> bool:
        """Whether the next database is idle without a connection, and tests would use one."""
        preconnector = self._preconnector
        return (
            preconnector is not None
            and preconnector.wanted
            and (name := self._next_idle) is not None
            and not preconnector.has(name)
        )

    @property
    def _to_connect(self) -> bool:
        """Whether to connect to the next database now; one that is being reset comes connected."""
        return self._unconnected and not self._resetting

    @property
    def _rest(self) -> float:
        """Seconds for which the threads should do nothing, because a test begins and has what it needs."""
        if not self._idle or self._closing:
            return 0.0
        return self._scheduler.rest(self._scheduler.recycling + (0 if self._expects_reset else self._scheduler.making))

    # -- the threads ----------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Wake the tests and threads that wait, after something has changed; start threads with the second test."""
        if len(self._threads) < _THREADS and self._asked > 1 and not self._closing:
            for work in (self._run_maker, self._run_recycler)[len(self._threads) :]:
                session = self._manager.open_session("pool")
                thread = threading.Thread(target=work, args=(session,), name="elefast-pool", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the process has too many; the next call tries again
                    _log.info("the pool has %d threads: %s", len(self._threads), error)
                    break
                self._sessions.append(session)
                self._threads.append(thread)
            else:
                watchdog.start()
        self._changed.notify_all()
        # Where there is time, one thread does it all, because each that wakes up interrupts the test.
        both = self._rest <= 0 or self._to_connect or self._wants_more
        self._work.notify(2 if both else 1)

    def _may_begin(self, work: bool) -> bool:
        """Whether a thread that has `work` may begin; if not, it has waited until something changed."""
        rest = self._rest
        if work and rest <= 0:
            return True
        self._work.wait(rest if work else None)
        return False

    def _run_maker(self, session: MaintenanceSession) -> None:
        """The thread that makes databases and connects to the next one; with nothing to make, it recycles."""
        try:
            while self._make_or_connect(session):
                pass
            while session.is_open and self._recycle_one(session):
                pass
        finally:
            session.close()

    def _run_recycler(self, session: MaintenanceSession) -> None:
        """The thread that resets or drops the databases that tests have released."""
        try:
            while True:
                with self._changed:
                    while not (self._closing or self._may_begin(bool(self._used))):
                        pass
                    if self._closing and not session.is_open:
                        return  # at the end no thread connects any more; `close` recycles the rest
                if not self._recycle_one(session) and self._closing:
                    return
        finally:
            session.close()

    def _make_or_connect(self, session: MaintenanceSession) -> bool:
        """Wait until something is to be done, and do it; False at the end."""
        with self._changed:
            while True:
                if self._closing:
                    return False
                preconnector = self._preconnector if self._to_connect else None
                lacking = self._lacking if preconnector is None else None
                makes = lacking is not None
                if self._may_begin(preconnector is not None or makes or bool(self._used)):
                    break
            next_one = (self._next_idle or "") if preconnector is not None else ""
            # Reserved at once: a test that gets the database from now on waits for this connection.
            reservation = preconnector.reserve(next_one) if preconnector is not None else None
            self._busy += makes
            self._making += makes
            if lacking is not None:
                self._soon[lacking] += 1
                if len(self._idle) + self._resetting >= self._demand.capacity:
                    self._evict(lacking)
        if preconnector is not None and reservation is not None:
            preconnector.prepare(next_one, reservation)
        elif lacking is not None:
            self._make_idle(session, lacking)
        else:
            self._recycle_one(session)
        return True

    def _make_idle(self, session: MaintenanceSession, state: str) -> None:
        name = ""
        try:
            name = self._create(session, state)
        except Exception as error:
            self._give_up(error)
        with self._changed:
            self._busy -= 1
            self._making -= 1
            self._soon[state] -= 1
            if name:
                self._idle.append(name)
            self._wake()

    def _create(self, session: MaintenanceSession, state: str) -> str:
        start = clock.now()
        name, template = self._manager.create(session=session, scenario=state)
        self._states[name] = state
        self._scheduler.making = clock.now() - start
        if self._resetter is not None:
            self._resetter.track(name, template, session)
        return name

    # -- recycling ------------------------------------------------------------------------------------------

    def _recycle_one(self, session: MaintenanceSession) -> bool:
        """Recycle one database that was released; False where there is none, or no connection to go on with."""
        with self._changed:
            if not self._used:
                return False
            name, test = self._used.popleft()
            # With the one that a test has now there are as many as the pool is to have.
            others = len(self._idle) + self._scheduler.under_way + self._making
            state = self._states.get(name, "")
            unneeded = name in self._unneeded
            self._unneeded.discard(name)
            needed = self._size > 0 and not unneeded and self._demand.uses(state) and not self._closing
            if needed and others > self._demand.capacity:
                needed = self._evict(state)  # makes room where there is one that no test needs soon
            self._soon[state] += needed
            self._busy += 1
            begun = self._scheduler.begin()
        fresh = ""
        retained: RetainedSession | None = None
        preconnector = self._preconnector
        try:
            retained = preconnector.take_back(name) if preconnector is not None else None
            if preconnector is not None and not self._wants_connection(preconnector, retained):
                preconnector = None
            fresh = self._recycle(name, test, session, needed=needed, preconnector=preconnector, retained=retained)
        except Exception as error:
            self._give_up(error)
            with self._changed:
                if self._closing:
                    self._used.appendleft((name, test))
        finally:
            if retained is not None and not fresh:
                retained.release()
        with self._changed:
            self._busy -= 1
            self._soon[state] -= needed
            self._scheduler.end(begun, was_reset=bool(fresh))
            if fresh != name and (name, test) not in self._used:
                self._states.pop(name, None)
            if needed:
                self._expects_reset = bool(fresh)
            if fresh:
                self._states[fresh] = state
                # The next test gets the one that is connected to.
                (self._idle.append if preconnector is None else self._idle.appendleft)(fresh)
            self._wake()
        return session.is_open or not self._closing

    def _wants_connection(self, preconnector: Preconnector, retained: RetainedSession | None) -> bool:
        """Whether a database that is reset should be connected for its next test."""
        with self._changed:
            enough = retained is None and sum(map(preconnector.has, self._idle)) >= _CONNECTED
        return preconnector.wanted and not enough

    def _recycle(
        self,
        name: str,
        test: str,
        session: MaintenanceSession,
        *,
        needed: bool,
        preconnector: Preconnector | None,
        retained: RetainedSession | None,
    ) -> str:
        """Reset or drop a database whose test has closed its connections, and note what was left open on it.

        Args:
            name: The name of the database.
            test: The test that had it.
            session: The session to do it over.
            needed: Whether the pool needs the database, if it can be reset.
            preconnector: Connects to it for the next test; None where the pool has enough connections.
            retained: The session that its test had, if it is still open.

        Returns:
            The name of the database where it was reset; empty where it was dropped.
        """
        try:
            self._inspect(session)
            left: Sequence[Leftover] = session.remaining_sessions(name, but=retained.pid if retained is not None else 0)
            if self._resetter is not None and needed and not left:
                trusted = not self._resetter.counts_unreliable
                name, is_fresh = self._resetter.reset(name, session, preconnector, retained)
                if is_fresh:
                    return name
                if trusted and self._resetter.counts_unreliable:
                    self._note_leaks(leaks_of(test, [UncountedChanges(name)]))
            if self._resetter is not None:
                self._resetter.forget(name)
            if retained is not None:
                retained.release()
            if self._drops:
                left = self._manager.drop(name, session, grace=0 if left else GRACE)
            self._note_leaks(leaks_of(test, left))
        except Exception as error:
            if not session.is_open:
                raise
            # The server is well: it is this database alone, such as one with a prepared transaction.
            _log.warning("%s of %s was not dropped: %s", name, test or "no test", error)
            self._note_leaks([Leak(test, f"{name}: {error}", "left a database that cannot be dropped")])
        return ""

    def _note_leaks(self, leaks: Sequence[Leak]) -> None:
        with self._changed:
            self._leaks += leaks

    def _disconnect(self, name: str) -> None:
        if self._preconnector is not None:
            self._preconnector.close(name)

    def _give_up(self, error: Exception) -> None:
        # The next test that asks for a database meets the same error and reports it; the sweep drops the rest.
        _log.info("the pool gives up: %s", error)
        self._size = 0


def leaks_of(test: str, left: Sequence[Leftover]) -> list[Leak]:
    """What `test` left on its database, as leaks for the report."""
    return [_leak(test, one) for one in left]


def _leak(test: str, left: Leftover) -> Leak:
    match left:
        case DropBlocker():
            return Leak(test, f"{left}, which was cleared", "left behind")
        case UncountedChanges():
            return Leak(test, str(left), "left behind")
        case _:
            return Leak(test, str(left))

"""Databases made ahead of the tests, and dropped behind them, by a thread with a session of its own.

The test pays for connecting, not for copying.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from elefast.control import Control
from elefast.errors import ElefastError
from elefast.kernel.databases import Backend
from elefast.session import Session

__all__ = ["Pool"]

_log = logging.getLogger("elefast")


class Pool:
    """Databases of one control, kept ready.

    Args:
        control: Makes and drops them.
        size: How many are kept ready.
        limit: How many may live at once, ready, in use and waiting to be dropped.
        on_leak: Told, in the pool's thread, of the test whose sessions had to be ended, and of these.
    """

    def __init__(
        self, control: Control, *, size: int, limit: int, on_leak: Callable[[str, list[Backend]], None]
    ) -> None:
        self._control = control
        self._size = size
        self._limit = limit
        self._on_leak = on_leak
        self._ready: deque[str] = deque()
        self._doomed: deque[tuple[str, str]] = deque()
        self._in_use: set[str] = set()
        self._busy = 0
        """Databases that are being made or dropped at this moment."""
        self._asked = 0
        self._life = control.session.connects
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def take(self) -> tuple[str, bool]:
        """A database for a test, and whether it was ready.

        Raises:
            ElefastError: It could not be made, or `limit` databases are in use.
        """
        self._control.session.confirm()
        with self._changed:
            self._asked += 1
            if self._life != self._control.session.connects:
                # The run was taken for dead in between, so what was ready may be gone.
                self._life = self._control.session.connects
                self._doomed.extend((name, "") for name in self._ready)
                self._ready.clear()
                self._wake()
            while not self._ready and self._living >= self._limit:
                if not (self._doomed or self._busy):
                    raise ElefastError(
                        f"{len(self._in_use)} databases are in use at once, and pool.max = {self._limit} allows no "
                        "more. Drop some, or raise pool.max."
                    )
                self._changed.wait()
            if self._ready:
                name = self._ready.popleft()
                self._in_use.add(name)
                self._wake()
                return name, True
            self._busy += 1
        name = ""
        try:
            name = self._control.create()
        finally:
            with self._changed:
                self._busy -= 1
                if name:
                    self._in_use.add(name)
                self._changed.notify_all()
                # One test alone is not made to pay for a second database.
                if name and self._asked > 1:
                    self._wake()
        return name, False

    def give_back(self, name: str, test: str) -> bool:
        """Drop a database soon, in the background; False where it is not one of the pool's."""
        with self._changed:
            if name not in self._in_use:
                return False
            self._in_use.discard(name)
            self._doomed.append((name, test))
            self._wake()
            return True

    def forget(self, name: str) -> None:
        """Let go of a database that somebody else takes care of."""
        with self._changed:
            self._in_use.discard(name)
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what was given back and stop the thread; what was ready is dropped by the control."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        # A stack may be closed by the garbage collector, which runs in any thread.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None

    @property
    def _living(self) -> int:
        return len(self._ready) + len(self._doomed) + len(self._in_use) + self._busy

    @property
    def _wants_more(self) -> bool:
        return self._asked > 1 and len(self._ready) < self._size and self._living < self._limit

    def _wake(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._work, name="elefast-pool", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        session = self._control.helper("pool")
        try:
            while self._step(session):
                pass
        finally:
            session.close()

    def _step(self, session: Session) -> bool:
        """Do one thing: make one if there is none, else drop one, else make one more. False at the end."""
        with self._changed:
            while not (self._closing or self._doomed or self._wants_more):
                self._changed.wait()
            # At the end, too, given back databases are looked at for what was left open on them.
            if self._closing and not self._doomed:
                return False
            idle = self._closing or bool(self._ready) or not self._wants_more
            dropping = bool(self._doomed) and idle
            name, test = self._doomed.popleft() if dropping else ("", "")
            self._busy += 1
        try:
            if dropping:
                leaked = self._control.drop(name, session)
                if leaked:
                    self._on_leak(test, leaked)
            else:
                name = self._control.create(session=session)
        except Exception as error:
            # Whoever asks for a database next meets the same error, and can say so; the sweep drops the rest.
            _log.info("the pool gives up: %s", error)
            self._size = 0
            name = ""
        with self._changed:
            self._busy -= 1
            if name and not dropping:
                self._ready.append(name)
            self._changed.notify_all()
        return True

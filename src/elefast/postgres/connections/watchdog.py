"""Ends calls on connections over which no answer will come any more, and that nobody has closed.

A firewall that forgets a connection, or a tunnel whose far end is gone, leaves the client waiting for ever. TCP's own
timers see the first and not the second. So a call that takes long is looked at over another connection: as long
as the server works on it, it may take as long as it likes.
It knows links, and nothing of what is done over them.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import weakref
from collections.abc import MutableMapping
from contextlib import suppress

from elefast.postgres import driver_errors, server
from elefast.postgres.connections.control_connection import ControlConnection, SyncControlConnection
from elefast.postgres.connections.engines import private_engine
from elefast.runtime import clock
from elefast.runtime.process_lifetime import on_fork

__all__ = ["start", "watch"]

_log = logging.getLogger("elefast")

PATIENCE = 30.0
"""Seconds that a call may take before it is looked at, and between two looks."""

INTERVAL = 5.0
"""Seconds between two looks at how long calls take."""

PROBE = 10.0
"""Seconds that the other connection may take."""


class Watchdog:
    """The links of this process, and the thread that looks at their calls."""

    def __init__(self) -> None:
        self._links: weakref.WeakSet[SyncControlConnection] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def add(self, link: SyncControlConnection) -> None:
        """Look after `link` for as long as anybody has it."""
        with self._lock:
            self._links.add(link)

    def start(self) -> None:
        """Begin to look, if nobody does yet."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="elefast-stalls", daemon=True)
                with suppress(RuntimeError):  # the interpreter is about to end
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        looked: weakref.WeakKeyDictionary[SyncControlConnection, float] = weakref.WeakKeyDictionary()
        while True:
            time.sleep(INTERVAL)
            self._look(looked)

    def _look(self, looked: MutableMapping[SyncControlConnection, float]) -> None:
        # In a function of its own, for between two looks it must not be us who keeps a link alive.
        with self._lock:
            links = list(self._links)
        for link in links:
            since = link.since
            if since and clock.now() - max(since, looked.get(link, 0.0)) > PATIENCE:
                _end_if_stalled(link, since)
                looked[link] = clock.now()


def watch(link: ControlConnection) -> None:
    """Look after the calls of `link`, once `start` was called, if it is one that can be asked which backend it has."""
    if isinstance(link, SyncControlConnection):
        _watches[-1].add(link)


def start() -> None:
    """Begin to look after the calls of this process, in a thread.

    For who has threads anyway: Python warns of each `fork` in a process that has some.
    """
    _watches[-1].start()


def _end_if_stalled(link: SyncControlConnection, since: float) -> None:
    driver = link.driver
    pid = getattr(getattr(driver, "info", None), "backend_pid", 0)
    if not pid:
        return
    try:
        state = _state(link, pid)
    except Exception as error:
        if driver_errors.no_connections_left(error):
            return  # it lives
        state = f"cannot be asked: {driver_errors.driver_message(error)}"
    if state == "active":
        return
    time.sleep(min(1.0, INTERVAL))  # an answer may be on its way
    if link.since == since and link.driver is driver:
        _log.warning("no answer for %.0f s, and the server does not work on one (%s)", clock.now() - since, state)
        with socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM) as ours:
            ours.shutdown(socket.SHUT_RDWR)


def _state(link: SyncControlConnection, pid: int) -> str:
    """What the server says over another connection that backend `pid` does."""
    found: list[str] = []
    other = SyncControlConnection(
        private_engine(link.engine), lambda connection: found.append(server.backend_state(connection, pid))
    )
    try:
        other.open(PROBE)
    finally:
        other.close()
    return found[0]


_watches = [Watchdog()]


@on_fork
def _after_fork() -> None:
    _watches.append(Watchdog())  # the thread stayed with the parent

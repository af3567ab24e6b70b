"""Ends calls on connections that will never answer and that neither side has closed.

A firewall that forgets a connection, or a tunnel whose far end is gone, leaves the client waiting for ever. TCP's
timers notice the first and not the second. So the watchdog asks the server about each long call, over another
connection. As long as the server works on it, a call may take any time.
It must not know what is done over the connections.
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
"""Seconds that a call may take before the watchdog asks the server about it, and between two such questions."""

INTERVAL = 5.0
"""Seconds between two checks of how long calls take."""

PROBE = 10.0
"""Seconds that the connection for such a question may take."""


class Watchdog:
    """The control connections of this process, and the thread that checks their calls."""

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[SyncControlConnection] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def add(self, connection: SyncControlConnection) -> None:
        """Watch `connection` until it is garbage collected."""
        with self._lock:
            self._connections.add(connection)

    def start(self) -> None:
        """Start the thread, unless it runs."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="elefast-watchdog", daemon=True)
                with suppress(RuntimeError):  # the interpreter is shutting down
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        checked: weakref.WeakKeyDictionary[SyncControlConnection, float] = weakref.WeakKeyDictionary()
        while True:
            time.sleep(INTERVAL)
            self._check(checked)

    def _check(self, checked: MutableMapping[SyncControlConnection, float]) -> None:
        # A separate function: a local variable of the loop would keep closed connections alive between two checks.
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            since = connection.since
            if since and clock.now() - max(since, checked.get(connection, 0.0)) > PATIENCE:
                _end_if_stalled(connection, since)
                checked[connection] = clock.now()


def watch(connection: ControlConnection) -> None:
    """Watch the calls of `connection` once `start` was called, if it is one whose backend can be known."""
    if isinstance(connection, SyncControlConnection):
        _watchdogs[-1].add(connection)


def start() -> None:
    """Watch the calls of this process in a thread.

    Call it where there are threads already, because Python warns of each `fork` in a process with threads.
    """
    _watchdogs[-1].start()


def _end_if_stalled(connection: SyncControlConnection, since: float) -> None:
    driver = connection.driver
    pid = getattr(getattr(driver, "info", None), "backend_pid", 0)
    if not pid:
        return
    try:
        state = _backend_state(connection, pid)
    except Exception as error:
        if driver_errors.no_connections_left(error):
            return  # a server that refuses connections for that reason is alive
        state = f"cannot be asked: {driver_errors.driver_message(error)}"
    if state == "active":
        return
    time.sleep(min(1.0, INTERVAL))  # an answer may be on its way
    if connection.since == since and connection.driver is driver:
        _log.warning("no answer for %.0f s, and the server does not work on one (%s)", clock.now() - since, state)
        with socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM) as connected:
            connected.shutdown(socket.SHUT_RDWR)


def _backend_state(connection: SyncControlConnection, pid: int) -> str:
    """What backend `pid` does, asked over another connection."""
    found: list[str] = []
    other = SyncControlConnection(
        private_engine(connection.engine), lambda asking: found.append(server.backend_state(asking, pid))
    )
    try:
        other.open(PROBE)
    finally:
        other.close()
    return found[0]


_watchdogs = [Watchdog()]


@on_fork
def _after_fork() -> None:
    _watchdogs.append(Watchdog())  # the thread stayed with the parent

"""What an interrupt leaves that comes between two steps of Python's own: locks, and lines of those who wait.

It has microseconds for that, so the tests make by hand what it leaves. They do so in a thread, for the main one not to
hang where the stack does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

import elefast
from elefast.databases import preconnect
from elefast.databases.pool import DatabasePool
from tests.integration.providers.provider_support import until


def _locked(pool: DatabasePool) -> None:
    """Locked, and not yet in the block that unlocks."""
    pool._changed.acquire()


def _line(pool: DatabasePool) -> None:
    """Told to go on, and not yet taken out of the line."""
    line: deque[threading.Lock] = pool._work._waiters  # type: ignore[attr-defined]
    assert until(lambda: len(line) == 2)
    one = threading.Lock()
    one.acquire()
    line.appendleft(one)


def _connection_locked(pool: DatabasePool) -> None:
    """The same, for what was connected to ahead: that stays open until its database goes."""
    assert pool._preconnector
    for reservation in pool._preconnector._reservations.values():
        reservation.lock.acquire()


@pytest.mark.fault("Ctrl-C between two steps of a lock", how="the lock, or the line of those who wait, is left so")
@pytest.mark.parametrize("left", [_locked, _line, _connection_locked])
def test_it_comes_to_an_end(
    project: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, left: Callable[[DatabasePool], None]
) -> None:
    """Whoever closes the stack waits for nobody who waits for him."""
    monkeypatch.setattr(preconnect, "_CLOSE_TIMEOUT", 0.1)
    stack = elefast.from_config(project, env=env)
    held = [stack.checkout() for _ in range(3)]
    for lent in held:
        lent.engine.dispose()
        lent.release()
    pool = stack.service.pool
    assert pool.wait_until(lambda state: state.is_quiet and len(state.idle) > 1, 60)
    assert pool.state().threads == 2
    assert pool._preconnector
    made_ahead = [reservation.first for reservation in pool._preconnector._reservations.values()]

    def interrupted() -> None:
        left(pool)
        stack.close()

    closing = threading.Thread(target=interrupted, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    assert not any(thread.is_alive() for thread in pool._threads)
    for connection in made_ahead:
        if connection is not None:
            connection.close()

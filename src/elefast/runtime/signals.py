"""Interrupts (Ctrl-C): they wait for the end of a cleanup, and leave nothing behind that blocks it.

A user who interrupts a run at its end wants it to end, but not without the cleanup that has just begun.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from asyncio import CancelledError
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["close_unfinished", "defer_interrupts", "unlock"]


def close_unfinished(interrupt: BaseException | None = None) -> None:
    """Close a connection that was being opened when an interrupt came; call this before dropping databases.

    The driver has the connection in a local variable, which the traceback of the interrupt keeps alive. Until it is
    closed, the server waits for its password for a minute (``authentication_timeout``), and DROP DATABASE waits for an
    answer of all backends, which a backend in authentication does not give (measured with PostgreSQL 15 and 18).

    Args:
        interrupt: The interrupt, or an error that was raised from it; by default the exception that is being handled.
    """
    error = interrupt or sys.exception()
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, (KeyboardInterrupt, SystemExit, CancelledError)):  # asyncio raises the last
            traceback.clear_frames(error.__traceback__)
            for frame, _ in traceback.walk_tb(error.__traceback__):
                # Before Python 3.13 a reader of the variables, such as pytest, leaves a copy of them in the frame. This
                # updates the copy.
                _ = frame.f_locals
        error = error.__context__  # the interrupt may have been turned into another error


def unlock(condition: threading.Condition) -> None:
    """Release the lock of `condition` if this thread still holds it after an interrupt at the start of a `with` block.

    Call it outside of such blocks, before this thread waits for other threads that need the lock.

    Args:
        condition: A condition with a reentrant lock.
    """
    with suppress(RuntimeError):  # this thread does not hold it, or not any more
        while True:
            condition.release()


@contextmanager
def defer_interrupts() -> Generator[None]:
    """Defer an interrupt to the end of this block; a second one is raised at once.

    Only the main thread gets interrupts, so in other threads this does nothing, nor where no handler is installed.
    """
    close_unfinished()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    waiting: list[FrameType | None] = []

    def wait(number: int, frame: FrameType | None) -> None:
        if waiting:
            before(number, frame)
        waiting.append(frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if len(waiting) == 1:
            before(signal.SIGINT, waiting[0])

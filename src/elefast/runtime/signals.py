"""Ctrl-C: while things are put in order it waits until that is done, and what it left half-done holds up nothing.

Whoever interrupts a run that is about to end wants it to end, and not to leave behind what it had just begun to remove.
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
    """Close the connection that was being opened when an interrupt came; to be called before anything is dropped.

    A driver has it in a local variable, which the traceback of the interrupt keeps. Until it is closed the server waits
    for its password, a minute (``authentication_timeout``), and DROP DATABASE waits for that: it wants an answer of all
    backends, and one that is at authentication gives none (measured with PostgreSQL 15 and 18).

    Args:
        interrupt: The interrupt, or what somebody has made of it; by default what is being handled, if anything is.
    """
    error = interrupt or sys.exception()
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, (KeyboardInterrupt, SystemExit, CancelledError)):  # the last is what asyncio makes of it
            traceback.clear_frames(error.__traceback__)
            for frame, _ in traceback.walk_tb(error.__traceback__):
                # Who looked at the variables, as pytest does, has left a copy of them there, until Python 3.13; this
                # brings it up to date.
                _ = frame.f_locals
        error = error.__context__  # somebody may have made another error of it


def unlock(condition: threading.Condition) -> None:
    """Release the lock of a condition that this thread has, because an interrupt came just before the block in it.

    To be called where this thread cannot be in such a block, before it waits for others who need the lock.

    Args:
        condition: One with a reentrant lock.
    """
    with suppress(RuntimeError):  # not ours, or not any more
        while True:
            condition.release()


@contextmanager
def defer_interrupts() -> Generator[None]:
    """Let an interrupt wait for the end of this block; a second one comes at once, as ever.

    Only the main thread gets any, so elsewhere this does nothing; and so where nobody handles them.
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

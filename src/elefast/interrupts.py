"""Ctrl-C while things are put in order: it waits until that is done, and a second one does not.

Whoever interrupts a run that is about to end wants it to end, and not to leave behind what it had just begun to remove.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ["deferred"]


@contextmanager
def deferred() -> Generator[None]:
    """Let an interrupt wait for the end of this block; a second one comes at once, as ever.

    Only the main thread gets any, so elsewhere this does nothing; and so where nobody handles them.
    """
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

"""The real standard error, even while pytest captures output.

pytest replaces the file descriptors, so neither ``sys.__stderr__`` nor descriptor 2 is the terminal. To reach it,
elefast suspends pytest's capture for a moment. The pytest plugin registers here how to do so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

__all__ = ["SuspendCapture", "can_draw", "register_capture", "standard_error"]

SuspendCapture = Callable[[], AbstractContextManager[object]]
"""Makes a context manager that suspends the capture of output."""

_suspend: SuspendCapture | None = None


def register_capture(suspend: SuspendCapture | None) -> Callable[[], None]:
    """Register how the capture of output is suspended.

    Args:
        suspend: Makes a context manager that suspends the capture; None if output is not captured.

    Returns:
        A function that restores the previous registration.
    """
    global _suspend
    previous, _suspend = _suspend, suspend

    def unregister() -> None:
        global _suspend
        _suspend = previous

    return unregister


@contextmanager
def standard_error() -> Generator[TextIO]:
    """The standard error that the user sees, without a buffer.

    Outside pytest it is ``sys.stderr``, or the null device in a process without one.
    """
    if _suspend is None:
        if sys.stderr is not None:
            yield sys.stderr
            return
        descriptor = os.open(os.devnull, os.O_WRONLY)
    else:
        with _suspend():
            descriptor = os.dup(2)
    with open(descriptor, "w", encoding="utf-8", errors="replace", buffering=1) as stream:
        yield stream


def can_draw(stream: TextIO) -> bool:
    """Whether a line on `stream` can be drawn repeatedly: it is a terminal, and not that of a CI job."""
    try:
        is_terminal = stream.isatty()
    except ValueError:  # closed
        return False
    return is_terminal and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")

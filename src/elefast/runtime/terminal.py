"""The real standard error, also while pytest captures what is written.

pytest replaces the file descriptors, so that neither ``sys.__stderr__`` nor descriptor 2 is the terminal then.
Its capture has to be lifted for a moment; the plugin says here how that is done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

__all__ = ["Lift", "behind", "can_draw", "standard_error"]

Lift = Callable[[], AbstractContextManager[object]]

_lift: Lift | None = None


def behind(lift: Lift | None) -> Callable[[], None]:
    """Say how the capture is lifted for a moment, or that there is none; gives what ends that."""
    global _lift
    before, _lift = _lift, lift

    def end() -> None:
        global _lift
        _lift = before

    return end


@contextmanager
def standard_error() -> Generator[TextIO]:
    """What people see as standard error; everything that is written to it goes there at once.

    Outside pytest it is ``sys.stderr``, or nothing where there is none.
    """
    if _lift is None:
        if sys.stderr is not None:
            yield sys.stderr
            return
        descriptor = os.open(os.devnull, os.O_WRONLY)
    else:
        with _lift():
            descriptor = os.dup(2)
    with open(descriptor, "w", encoding="utf-8", errors="replace", buffering=1) as stream:
        yield stream


def can_draw(stream: TextIO) -> bool:
    """Whether a line on `stream` can be drawn again and again: it is a terminal, and not that of a CI job."""
    try:
        is_terminal = stream.isatty()
    except ValueError:  # closed
        return False
    return is_terminal and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")

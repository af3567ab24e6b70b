"""A short traceback for Ctrl-C, because pytest may need seconds to render a long one."""

from __future__ import annotations

import os

import pytest

__all__ = ["shorten_traceback"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def shorten_traceback(config: pytest.Config, interrupt: pytest.ExceptionInfo[BaseException]) -> None:
    """Cut the traceback of `interrupt` where it enters elefast, unless ``--full-trace`` is given.

    In a worker of pytest-xdist one entry is left, because the traceback is not shown.
    """
    entries = interrupt.traceback
    if hasattr(config, "workerinput"):
        shown = 1
    elif config.getoption("fulltrace"):
        return
    else:
        ours = (number for number, entry in enumerate(entries, 1) if str(entry.path).startswith(_PACKAGE))
        shown = next(ours, len(entries))
    if shown < len(entries):
        interrupt.traceback = entries[:shown]
        # pytest would also render the exception that was being handled.
        interrupt.value.__suppress_context__ = True

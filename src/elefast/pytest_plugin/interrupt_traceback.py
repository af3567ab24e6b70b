"""What pytest shows of an interrupt: to render all of its traceback may take it seconds, after Ctrl-C of all times."""

from __future__ import annotations

import os

import pytest

__all__ = ["shorten"]

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def shorten(config: pytest.Config, interrupt: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave out of its traceback what is inside of elefast, unless all is asked for.

    In a worker of pytest-xdist nobody sees anything of it.
    """
    entries = interrupt.traceback
    if hasattr(config, "workerinput"):
        shown = 1
    elif config.getoption("fulltrace"):
        return
    else:
        ours = (number for number, entry in enumerate(entries, 1) if str(entry.path).startswith(_OWN))
        shown = next(ours, len(entries))
    if shown < len(entries):
        interrupt.traceback = entries[:shown]
        # Nor what was being handled when it came, which would be rendered, too.
        interrupt.value.__suppress_context__ = True

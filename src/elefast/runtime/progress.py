"""Shows a long wait on standard error: for a server that starts, or a template that is built.

A short wait shows nothing. After two seconds a terminal gets a line that is drawn again with each step and removed at
the end; anything else, such as a CI log, gets one plain line.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import Literal, TextIO

from elefast.runtime import clock, terminal

__all__ = ["AFTER", "begin", "describe", "hidden", "quiet", "show", "step"]

AFTER = 2.0
"""Seconds until a wait is shown."""

_EVERY = 0.2  # seconds between two drawings on a terminal

_WIDTH = 80  # of a terminal that does not tell its width

_quiet = 0
_waits: list[_Wait] = []
"""The waits of this process that are not over, the innermost last."""


@contextmanager
def show(what: str, *, workers: Literal["all", "first", "none"]) -> Generator[None]:
    """Show `what` if this block takes longer than `AFTER` seconds.

    Args:
        what: What is waited for: ``building the template``.
        workers: Which workers of pytest-xdist show it. All of them wait for the same thing, and one line is enough.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if _quiet or (worker and (workers == "none" or (workers == "first" and worker != "gw0"))):
        yield
        return
    wait = _Wait(what)
    _waits.append(wait)
    try:
        wait.start()
        yield
    finally:
        _waits.remove(wait)
        wait.end()


def begin(label: str) -> None:
    """Tell the current wait which part of the work begins: ``alembic upgrade heads``."""
    for wait in _waits[-1:]:
        wait.begin(label)


def step(number: int, total: int, unit: str) -> None:
    """Tell the current wait how far its part is.

    Args:
        number: The step that begins, from 1.
        total: How many there are.
        unit: What they are: ``revisions``.
    """
    for wait in _waits[-1:]:
        wait.step(number, total, unit)


def describe() -> str:
    """What the current wait is for and how long it lasts: ``building the template (app:fill), 12 s``; else empty."""
    return _waits[-1].describe() if _waits else ""


@contextmanager
def hidden() -> Generator[None]:
    """Do not show the waits of this process during this block, in which something else shows progress."""
    waits = list(_waits)
    for wait in waits:
        wait.hide()
    try:
        yield
    finally:
        for wait in waits:
            wait.reveal()


@contextmanager
def quiet() -> Generator[None]:
    """Show no wait that begins during this block: a program reads the output."""
    global _quiet
    _quiet += 1
    try:
        yield
    finally:
        _quiet -= 1


class _Wait:
    """One wait, with the thread that shows it.

    Args:
        what: What is waited for.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = clock.now()
        self._part = ""
        self._number = 0
        self._total = 0
        self._unit = ""
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._hidden = 0
        self._drawn = False
        self._stream: TextIO | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. It gets the stream from here, because only this thread may lift pytest's capture."""
        streams = ExitStack()
        self._stream = stream = streams.enter_context(terminal.standard_error())
        thread = threading.Thread(target=self._run, args=(stream, streams), name="elefast-wait", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is about to end
            streams.close()
        else:
            self._thread = thread

    def end(self) -> None:
        """Stop the thread, which removes its line from a terminal."""
        self._over.set()
        if self._thread is not None:
            # A terminal that was stopped by Ctrl-S takes nothing, and must not hold up the tests.
            self._thread.join(1)

    def begin(self, label: str) -> None:
        self._part, self._number, self._total = " ".join(label.split()), 0, 0

    def step(self, number: int, total: int, unit: str) -> None:
        self._number, self._total, self._unit = number, total, unit

    def hide(self) -> None:
        with self._lock, suppress(OSError, ValueError):
            self._hidden += 1
            self._erase()

    def reveal(self) -> None:
        with self._lock:
            self._hidden -= 1

    def _run(self, stream: TextIO, streams: ExitStack) -> None:
        # The reader of a pipe may be gone.
        with streams, suppress(OSError, ValueError):
            if self._over.wait(AFTER):
                return
            if not terminal.can_draw(stream):
                self._show_once(stream)
                return
            try:
                while True:
                    self._draw(stream)
                    if self._over.wait(_EVERY):
                        return
            finally:
                self._erase()

    def _show_once(self, stream: TextIO) -> None:
        while True:
            with self._lock:
                if not self._hidden:
                    # pytest may be in the middle of a line of dots.
                    stream.write(f"\n{self._plain()}\n")
                    stream.flush()
                    return
            if self._over.wait(_EVERY):
                return

    def _draw(self, stream: TextIO) -> None:
        with self._lock:
            if self._hidden:
                return
            try:
                width = os.get_terminal_size(stream.fileno()).columns or _WIDTH
            except OSError:
                width = _WIDTH
            line = f"elefast: {self.describe()}"[: max(width - 1, 1)]
            # pytest may be in the middle of a line, so this goes to the line below, and the cursor stays where it is:
            # make room for a line, remember the position, write, return to it.
            stream.write(f"\x1bD\x1b[A\x1b7\x1b[B\r\x1b[K{line}\x1b8")
            stream.flush()
            self._drawn = True

    def _erase(self) -> None:
        if self._drawn and self._stream is not None:
            self._drawn = False
            self._stream.write("\x1b7\x1b[B\r\x1b[K\x1b8")
            self._stream.flush()

    def describe(self) -> str:
        """What is waited for, how far it is, and for how long."""
        part = self._part
        if part and self._total:
            part += f": {self._number:0{len(str(self._total))}} of {self._total}"
        seconds = int(clock.now() - self._began)
        return f"{self._what}{f' ({part})' if part else ''}, {seconds} s"

    def _plain(self) -> str:
        """What a log shows."""
        part = self._part
        if part and self._total:
            part += f", {self._total} {self._unit}"
        return f"elefast: {self._what}{f' ({part})' if part else ''} ..."

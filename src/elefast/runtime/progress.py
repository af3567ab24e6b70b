"""Shows progress on standard error during a long wait, for a server or for the build of a template.

A wait of less than two seconds shows nothing. After that, a terminal shows a line that is drawn again with each step
and removed at the end. Any other stream, such as a CI log, gets one plain line.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import Literal, TextIO

from elefast.runtime import clock, terminal

__all__ = ["DELAY", "begin_part", "describe", "disabled", "paused", "show", "step"]

DELAY = 2.0
"""Seconds that a wait takes before it is shown."""

_INTERVAL = 0.2  # seconds between two drawings on a terminal

_DEFAULT_WIDTH = 80  # for a terminal whose width is unknown

_disabled = 0
_waits: list[_Wait] = []
"""The current waits of this process, the innermost last."""


@contextmanager
def show(what: str, *, workers: Literal["all", "first", "none"]) -> Generator[None]:
    """Show progress if this block takes longer than `DELAY` seconds.

    Args:
        what: The text that describes the wait: ``building the template``.
        workers: The workers of pytest-xdist that show it. If all of them wait for the same server, one line is enough.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if _disabled or (worker and (workers == "none" or (workers == "first" and worker != "gw0"))):
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


def begin_part(label: str) -> None:
    """Show that the next part of the work begins.

    Args:
        label: The name of the part: ``alembic upgrade heads``.
    """
    for wait in _waits[-1:]:
        wait.begin_part(label)


def step(number: int, total: int, unit: str) -> None:
    """Show how far the current part is.

    Args:
        number: The number of the step that begins, from 1.
        total: The number of steps.
        unit: The unit of the steps: ``revisions``.
    """
    for wait in _waits[-1:]:
        wait.step(number, total, unit)


def describe() -> str:
    """The current wait and how long it has lasted: ``building the template (app:fill), 12 s``; empty without one."""
    return _waits[-1].describe() if _waits else ""


@contextmanager
def paused() -> Generator[None]:
    """Pause the display of current waits during this block, which shows progress of another kind."""
    waits = list(_waits)
    for wait in waits:
        wait.pause()
    try:
        yield
    finally:
        for wait in waits:
            wait.resume()


@contextmanager
def disabled() -> Generator[None]:
    """Show no wait that begins during this block, because a program reads the output."""
    global _disabled
    _disabled += 1
    try:
        yield
    finally:
        _disabled -= 1


class _Wait:
    """A wait, with the thread that shows it.

    Args:
        what: The text that describes it.
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
        self._pauses = 0
        self._drawn = False
        self._stream: TextIO | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. The caller's thread opens the stream, because only it may suspend pytest's capture."""
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
        """Stop the thread, which erases its line on a terminal."""
        self._over.set()
        if self._thread is not None:
            # The thread hangs if the user has stopped the terminal by Ctrl-S, which must not hold up the tests.
            self._thread.join(1)

    def begin_part(self, label: str) -> None:
        self._part, self._number, self._total = " ".join(label.split()), 0, 0

    def step(self, number: int, total: int, unit: str) -> None:
        self._number, self._total, self._unit = number, total, unit

    def pause(self) -> None:
        with self._lock, suppress(OSError, ValueError):
            self._pauses += 1
            self._erase()

    def resume(self) -> None:
        with self._lock:
            self._pauses -= 1

    def _run(self, stream: TextIO, streams: ExitStack) -> None:
        # The process that reads from a pipe may have ended.
        with streams, suppress(OSError, ValueError):
            if self._over.wait(DELAY):
                return
            if not terminal.can_draw(stream):
                self._show_once(stream)
                return
            try:
                while True:
                    self._draw(stream)
                    if self._over.wait(_INTERVAL):
                        return
            finally:
                self._erase()

    def _show_once(self, stream: TextIO) -> None:
        while True:
            with self._lock:
                if not self._pauses:
                    # pytest may have written a part of a line of dots.
                    stream.write(f"\n{self._plain_text()}\n")
                    stream.flush()
                    return
            if self._over.wait(_INTERVAL):
                return

    def _draw(self, stream: TextIO) -> None:
        with self._lock:
            if self._pauses:
                return
            try:
                width = os.get_terminal_size(stream.fileno()).columns or _DEFAULT_WIDTH
            except OSError:
                width = _DEFAULT_WIDTH
            line = f"elefast: {self.describe()}"[: max(width - 1, 1)]
            # pytest may have written a part of a line. Therefore this writes to the line below: make room for it, save
            # the position of the cursor, write, and restore the position.
            stream.write(f"\x1bD\x1b[A\x1b7\x1b[B\r\x1b[K{line}\x1b8")
            stream.flush()
            self._drawn = True

    def _erase(self) -> None:
        if self._drawn and self._stream is not None:
            self._drawn = False
            self._stream.write("\x1b7\x1b[B\r\x1b[K\x1b8")
            self._stream.flush()

    def describe(self) -> str:
        """The text for a terminal: the wait, how far it is, and how long it has lasted."""
        part = self._part
        if part and self._total:
            part += f": {self._number:0{len(str(self._total))}} of {self._total}"
        seconds = int(clock.now() - self._began)
        return f"{self._what}{f' ({part})' if part else ''}, {seconds} s"

    def _plain_text(self) -> str:
        """The text for a log."""
        part = self._part
        if part and self._total:
            part += f", {self._total} {self._unit}"
        return f"elefast: {self._what}{f' ({part})' if part else ''} ..."

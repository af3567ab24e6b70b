"""When an interrupt comes that has to wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from elefast.runtime.signals import close_unfinished, defer_interrupts


@pytest.fixture(autouse=True)
def _as_on_a_terminal() -> Iterator[None]:
    """Whatever the shell that started these tests does with interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_one_waits() -> None:
    """All is done before it comes."""
    done: list[str] = []

    @defer_interrupts()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_one_does_not() -> None:
    """Who asks twice means it."""
    done: list[str] = []

    @defer_interrupts()
    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("not this")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nested_ones_come_once() -> None:
    """At the end of the outermost block."""
    done: list[str] = []

    @defer_interrupts()
    def work() -> None:
        with defer_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")
        done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]


def test_a_handler_of_somebodys_own_is_asked_when_all_is_done() -> None:
    """Such as that of an event loop."""
    asked: list[str] = []
    signal.signal(signal.SIGINT, lambda number, frame: asked.append("own"))
    with defer_interrupts():
        signal.raise_signal(signal.SIGINT)
        asked.append("done")
    assert asked == ["done", "own"]


def test_where_interrupts_are_ignored_they_stay_so() -> None:
    """As for a program in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with defer_interrupts():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_have_none() -> None:
    """And may not change what the main thread does with them."""
    seen: list[object] = []

    def work() -> None:
        with defer_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


class _Opening:
    """What is being opened, and says when it is closed."""

    def __init__(self, closed: list[str]) -> None:
        self._closed = closed

    def __del__(self) -> None:
        self._closed.append("closed")


@pytest.mark.parametrize("other", [None, SystemExit(1), ValueError("what a block raises on its way out")])
def test_what_was_being_opened_is_closed(other: BaseException | None) -> None:
    """Also where the traceback has been looked at, and something else was made of the interrupt."""
    closed: list[str] = []

    def connect() -> None:
        opening = _Opening(closed)
        signal.raise_signal(signal.SIGINT)
        del opening

    def work() -> None:
        try:
            connect()
        except KeyboardInterrupt:
            if other is None:
                raise
            raise other  # noqa: B904

    with pytest.raises((KeyboardInterrupt, SystemExit, ValueError)) as caught:
        work()
    assert [entry.frame.f_locals for entry in caught.traceback]
    assert not closed
    close_unfinished(caught.value)
    assert closed == ["closed"]


def test_other_errors_keep_what_they_have() -> None:
    """Debuggers show it."""
    closed: list[str] = []

    def fail() -> None:
        opening = _Opening(closed)
        raise ValueError(opening)

    with pytest.raises(ValueError, match="_Opening") as caught:
        fail()
    close_unfinished(caught.value)
    assert not closed

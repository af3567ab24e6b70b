"""What becomes of objects when the process forks, when it ends, and when the garbage collector finds them open.

@on_fork
def forget_threads() -> None: ...        # called in each forked child

self._owner = OwnerProcess()             # self._owner.is_current: False in a forked child

_open = ClosedAtExit[Stack]()            # closes at the end of the process what was added and not discarded

_retired = Retired[Service](Service.stop)  # __del__ adds, and the next use of the class stops what was added
"""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["ClosedAtExit", "OwnerProcess", "Retired", "fork_count", "on_fork"]


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T")
C = TypeVar("C", bound=_Closable)


def on_fork(handler: Callable[[], None]) -> Callable[[], None]:
    """Call `handler` in each forked child, before any other code of it; nothing happens where Python cannot fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=handler)
    return handler


_forks = 0


def fork_count() -> int:
    """How often this process has forked. Each child has the sockets that were open then."""
    return _forks


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_count_fork)


class OwnerProcess:
    """The process that made an object. A forked child has a copy of the object, and must not use what it holds."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether this is that process."""
        return self._pid == os.getpid()


class ClosedAtExit(Generic[C]):
    """Objects that are closed at the end of the process, if they are still open then.

    The references are strong: what an object holds, such as a connection, must not be collected before it is closed.
    """

    def __init__(self) -> None:
        self._open: set[C] = set()
        atexit.register(self.close)

    def add(self, item: C) -> None:
        """Close `item` at the end of the process."""
        self._open.add(item)

    def discard(self, item: C) -> None:
        """Leave `item` alone, because it was closed."""
        self._open.discard(item)

    def close(self) -> None:
        """Close all of them."""
        for item in list(self._open):
            item.close()


class Retired(Generic[T]):
    """Objects that the garbage collector found open.

    The collector runs in any thread, also while that thread holds a lock which closing needs. So a finalizer only
    adds the object, and the owner of this queue closes it at a moment of its choice; at the end of the process at the
    latest.

    Args:
        close: Closes one object.
    """

    def __init__(self, close: Callable[[T], object]) -> None:
        self._close = close
        self._items: deque[T] = deque()
        atexit.register(self.close)

    def add(self, item: T) -> None:
        """Have `item` closed later; safe in any thread and under any lock."""
        self._items.append(item)

    def close(self) -> None:
        """Close what was added."""
        while self._items:
            try:
                item = self._items.popleft()
            except IndexError:  # another thread was quicker
                return
            self._close(item)

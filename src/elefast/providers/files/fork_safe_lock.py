"""A shared lock as a lease has it: its own as long as the lease is, and the process that took it."""

from __future__ import annotations

import os
import weakref

from elefast.runtime.process_lifetime import on_fork

__all__ = ["Hold"]

_holds: weakref.WeakSet[Hold] = weakref.WeakSet()


class Hold:
    """The descriptor of a lock file. A forked child closes its copy, so that the lock ends with the parent.

    Args:
        descriptor: It holds the lock until it is closed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pid = os.getpid()
        _holds.add(self)

    @property
    def is_ours(self) -> bool:
        """Whether this process still holds it."""
        return self._descriptor >= 0 and self._pid == os.getpid()

    def take(self) -> int:
        """The descriptor, for the caller to unlock and close; -1 where this process holds nothing any more."""
        descriptor = self._descriptor if self.is_ours else -1
        self._descriptor = -1
        return descriptor

    def forget(self) -> None:
        """Close it in a forked child."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@on_fork
def _forget_all() -> None:
    for hold in list(_holds):
        hold.forget()

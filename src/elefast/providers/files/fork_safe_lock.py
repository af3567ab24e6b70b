"""A lock that belongs to the process that took it, and not to the children that the process forks."""

from __future__ import annotations

import os
import weakref

from elefast.runtime.process_lifetime import OwnerProcess, on_fork

__all__ = ["ForkSafeLock"]

_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


class ForkSafeLock:
    """The descriptor of a locked file. A forked child closes its copy, so that the lock ends with the parent.

    Args:
        descriptor: Holds the lock until it is closed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owner = OwnerProcess()
        _locks.add(self)

    @property
    def is_ours(self) -> bool:
        """Whether this process holds the lock."""
        return self._descriptor >= 0 and self._owner.is_current

    def detach(self) -> int:
        """Hand the descriptor over to the caller, who unlocks and closes it.

        Returns:
            The descriptor, or -1 if this process does not hold the lock.
        """
        descriptor = self._descriptor if self.is_ours else -1
        self._descriptor = -1
        return descriptor

    def close(self) -> None:
        """Close the descriptor without unlocking the file, which the parent process has open as well."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@on_fork
def _close_all() -> None:
    for lock in list(_locks):
        lock.close()

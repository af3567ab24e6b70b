"""``provider = "url"``: an existing server.

This provider starts nothing and connects to nothing. The validation of the configuration has decided whether the host
may be used (`engine.allow_remote`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from elefast.errors import ConfigurationError, Problem
from elefast.postgres.urls import display_url, libpq_url
from elefast.providers.protocol import nothing

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["UrlLease", "UrlProvider", "maintenance_url"]


class UrlLease:
    """A lease on an existing server, which stays after the lease."""

    provider = "url"
    owned = False
    ephemeral = False

    def __init__(self, url: URL, reason: str) -> None:
        self._url = url
        self.reason = reason
        self.description = f"existing server {display_url(url)}"

    def __repr__(self) -> str:
        return f"<UrlLease {self.description}>"

    @property
    def url(self) -> URL:
        """The server's URL for psycopg, with the database that the given URL names."""
        return self._url

    def ended(self) -> str:
        """Always empty, because the owner of the server may start it again."""
        return ""

    def hold(self) -> None:
        """Do nothing, because elefast does not stop this server."""

    def release(self) -> None:
        """Do nothing, because elefast does not stop this server."""


class UrlProvider:
    """Gives leases on the server at `url`.

    Args:
        url: Any SQLAlchemy or libpq URL of a PostgreSQL server, with any driver.
        reason: Why this provider was chosen, for the report.
    """

    def __init__(self, url: str | URL, *, reason: str = 'provider = "url"') -> None:
        self._url = url
        self._reason = reason

    def acquire(self, on_new: Callable[[], None] = nothing) -> UrlLease:
        """Give a lease without a connection.

        Raises:
            ConfigurationError: The URL is missing, or is not that of a PostgreSQL server.
        """
        return UrlLease(maintenance_url(self._url), self._reason)

    def running(self) -> bool:
        """Always true, because elefast does not start this server."""
        return True


def maintenance_url(url: str | URL) -> URL:
    """The URL of the same server for psycopg. Its database is ``postgres`` if `url` names none.

    Args:
        url: Any SQLAlchemy or libpq URL.

    Raises:
        ConfigurationError: It is missing, or is not the URL of a PostgreSQL server.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    if not url:
        raise _wrong(
            "not set; expected something like postgresql://user:password@localhost:5432/postgres", "missing-value"
        )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # The text may contain a password, so the message does not repeat it.
        raise _wrong("not a URL; expected something like postgresql://user:password@localhost:5432/postgres") from error
    backend = parsed.drivername.partition("+")[0]
    if backend not in ("postgresql", "postgres"):
        raise _wrong(f"a {backend} URL; elefast needs a PostgreSQL: postgresql://...")

    plain = libpq_url(parsed)
    return plain if plain.database else plain.set(database="postgres")


def _wrong(message: str, code: str = "wrong-value") -> ConfigurationError:
    return ConfigurationError(
        [Problem("", "engine.url", message, code=code)], "set engine.url, or the variable ELEFAST_ENGINE__URL"
    )

"""``provider = "url"``: a server that somebody else runs.

Nothing is started and nothing is connected here. Whether the host may be used at all
(`engine.allow_remote`) was decided when the configuration was validated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from elefast.errors import ConfigurationError, Problem
from elefast.postgres.urls import libpq_url, shown
from elefast.providers.protocol import nothing

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["UrlLease", "UrlProvider", "maintenance_url"]


class UrlLease:
    """A lease over a server that was there before and stays."""

    provider = "url"
    owned = False
    ephemeral = False

    def __init__(self, url: URL, reason: str) -> None:
        self._url = url
        self.reason = reason
        self.description = f"existing server {shown(url)}"

    def __repr__(self) -> str:
        return f"<UrlLease {self.description}>"

    @property
    def url(self) -> URL:
        """The server, as psycopg reaches it; the database is the one that the given URL named."""
        return self._url

    def ended(self) -> str:
        """Nobody knows: who runs it may start it again."""
        return ""

    def hold(self) -> None:
        """Nothing to do: the server is not elefast's to stop."""

    def release(self) -> None:
        """Nothing to do: the server is not elefast's to stop."""


class UrlProvider:
    """Gives leases over the server at `url`.

    Args:
        url: Any SQLAlchemy or libpq URL of a PostgreSQL, whatever its driver.
        reason: For the report, why it is this one.
    """

    def __init__(self, url: str | URL, *, reason: str = 'provider = "url"') -> None:
        self._url = url
        self._reason = reason

    def acquire(self, on_new: Callable[[], None] = nothing) -> UrlLease:
        """Give a lease at once; nothing is connected, and nothing new.

        Raises:
            ConfigurationError: There is no URL, or it is not one of a PostgreSQL.
        """
        return UrlLease(maintenance_url(self._url), self._reason)

    def running(self) -> bool:
        """It is somebody else's to run, so nothing would be started."""
        return True


def maintenance_url(url: str | URL) -> URL:
    """The same server as psycopg reaches it.

    Without a database it is ``postgres``.

    Raises:
        ConfigurationError: It is not the URL of a PostgreSQL.
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
        # The text may hold a password: say what is wrong without repeating it.
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

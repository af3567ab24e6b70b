"""What is known of a database, sync or async, by its URL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from sqlalchemy import URL

from elefast.postgres.urls import dsn, shown

__all__ = ["Located"]


def nothing() -> None:
    """Where nothing is connected ahead."""


class Located(ABC):
    """Something that is in one database."""

    @property
    @abstractmethod
    def _url(self) -> URL:
        """The URL of the database, with its password."""

    disconnect_ahead: Callable[[], None] = staticmethod(nothing)
    """Closes the connection that elefast opened ahead, before a test can connect by itself or count sessions."""

    @property
    def url(self) -> URL:
        """The URL of the database, with its password."""
        self.disconnect_ahead()
        return self._url

    @property
    def name(self) -> str:
        """The name of the database."""
        self.disconnect_ahead()
        return self._name

    @property
    def _name(self) -> str:
        name = self._url.database
        if not name:
            raise ValueError(f"the engine's URL names no database: {self._url!r}")
        return name

    @property
    def dsn(self) -> str:
        """A libpq connection URI with the password, for raw drivers and other programs."""
        return dsn(self.url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self._url)}>"

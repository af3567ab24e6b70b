"""What is known of a database, sync or async, by its URL."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sqlalchemy import URL

from elefast.urls import dsn, shown

__all__ = ["Located"]


class Located(ABC):
    """Something that is in one database."""

    @property
    @abstractmethod
    def url(self) -> URL:
        """The URL of the database, with its password."""

    @property
    def name(self) -> str:
        """The name of the database."""
        name = self.url.database
        if not name:
            raise ValueError(f"the engine's URL names no database: {self.url!r}")
        return name

    @property
    def dsn(self) -> str:
        """A libpq connection URI with the password, for raw drivers and other programs."""
        return dsn(self.url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self.url)}>"

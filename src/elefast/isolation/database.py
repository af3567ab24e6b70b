"""One database lent to one test, with a sync and an async view of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine

from elefast.databases.report import Leak
from elefast.postgres.urls import dsn
from elefast.sync import Database

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from elefast.asyncio import AsyncDatabase
    from elefast.stack import Stack

__all__ = ["LentDatabase"]


class LentDatabase:
    """A database for one test; the views are made when they are first asked for.

    Args:
        stack: Whose it is.
        name: Its name on the server.
        test: The node id of the test.
    """

    session_options: Mapping[str, Any] = {}
    """What sessions of the application must be made with."""

    def __init__(self, stack: Stack, name: str, test: str) -> None:
        self._stack = stack
        self.name = name
        self.test = test
        self._sync: Database | None = None
        self._async: AsyncDatabase | None = None

    @property
    def sync(self) -> Database:
        """The view with a sync engine."""
        if self._sync is None:
            server = self._stack.server
            self._sync = Database(self._stack.engine(self.name), server, server.sessionmaker_factory)
            self._sync.disconnect_ahead = partial(self._stack.withdraw, self.name)
        return self._sync

    @property
    def async_(self) -> AsyncDatabase:
        """The view with an async engine."""
        if self._async is None:
            server = self._stack.async_server  # says what to install where asyncio cannot be used
            from sqlalchemy.ext.asyncio import AsyncEngine

            from elefast.asyncio import AsyncDatabase

            self._stack.withdraw(self.name)  # a sync engine's connection, where the test has only this view
            engine = AsyncEngine(self._stack.async_engine(self.name))
            self._async = AsyncDatabase(engine, server, server.sessionmaker_factory)
        return self._async

    @property
    def engine(self) -> Engine:
        """The engine of `sync`."""
        return self.sync.engine

    @property
    def async_engine(self) -> AsyncEngine:
        """The engine of `async_`."""
        return self.async_.engine

    @property
    def url(self) -> URL:
        """The URL with the configured sync driver."""
        return self._stack.url_for(database=self.name)

    def url_for(self, driver: str) -> URL:
        """The URL with another driver, such as ``postgresql+asyncpg``."""
        return self._stack.url_for(driver, self.name)

    @property
    def dsn(self) -> str:
        """A libpq connection URI with the password."""
        return dsn(self.url)

    def let_go(self) -> None:
        """From here on the test only closes what it has."""

    def release(self, *, failed: bool = False, keep: str = "never", wait: bool = False) -> list[Leak]:
        """Give the database back; what is still open on it is ended by elefast.

        Args:
            failed: Whether the test failed.
            keep: ``never``, ``failed`` or ``always``: whether the database stays for a look.
            wait: Wait until it is dropped, and say what was left open, instead of leaving both to the background.
        """
        if self._sync is not None:
            self._sync.engine.dispose()
        if keep == "always" or (keep == "failed" and failed):
            return self._stack.keep(self.name, self.test)
        return self._stack.give_back(self.name, self.test, wait=wait)

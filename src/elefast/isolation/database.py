"""``isolation = "database"``: a private database for one test, with a sync and an async view of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine

from elefast.databases.changes import Changes
from elefast.databases.report import Leak
from elefast.databases.service import DatabaseService
from elefast.postgres.urls import dsn
from elefast.sync import Database, DatabaseServer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from elefast.asyncio import AsyncDatabase, AsyncDatabaseServer

__all__ = ["DatabaseCheckout"]


class DatabaseCheckout:
    """A database that one test has checked out. Its views are made at their first use.

    Args:
        service: The service that the database is from.
        server: The server of the sync view.
        async_server: Gives the server of the async view.
        name: The name of the database.
        test: The node id of the test.
        scenario: The scenario that it starts from; None for the one that tests start from.
    """

    session_options: Mapping[str, Any] = {}
    """Keywords that the session makers of the application need."""
    is_private = True
    """Whether other code may connect to the database by its URL."""

    def __init__(
        self,
        service: DatabaseService,
        server: DatabaseServer,
        async_server: Callable[[], AsyncDatabaseServer],
        name: str,
        test: str,
        scenario: str | None = None,
    ) -> None:
        self._service = service
        self._server = server
        self._async_server = async_server
        self.name = name
        self.test = test
        self._scenario = scenario
        self.role: str | None = None
        """The role of the URLs, if not the one that tests connect as; empty for the server's user."""
        self._sync: Database | None = None
        self._async: AsyncDatabase | None = None

    @property
    def sync(self) -> Database:
        """The view with a sync engine."""
        if self._sync is None:
            self._sync = Database(self._service.engine(self.name), self._server, self._server.sessionmaker_factory)
            self._sync.facts = self._service.facts(self._scenario)
            self._sync.close_preconnection = partial(self._service.close_preconnection, self.name)
        return self._sync

    @property
    def async_(self) -> AsyncDatabase:
        """The view with an async engine.

        Raises:
            MissingDependencyError: SQLAlchemy's asyncio half cannot be used here.
        """
        if self._async is None:
            server = self._async_server()  # first, because its error names the package to install
            from sqlalchemy.ext.asyncio import AsyncEngine

            from elefast.asyncio import AsyncDatabase

            engine = AsyncEngine(self._service.async_engine(self.name))
            self._async = AsyncDatabase(engine, server, server.sessionmaker_factory)
            self._async.facts = self._service.facts(self._scenario)
            self._async.close_preconnection = partial(self._service.close_preconnection, self.name)
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
        return self._service.test_url(self.name, role=self.role)

    def url_for(self, driver: str) -> URL:
        """The URL with another driver, such as ``postgresql+asyncpg``."""
        return self._service.test_url(self.name, driver, self.role)

    @property
    def dsn(self) -> str:
        """A libpq connection URI with the password."""
        return dsn(self.url)

    def note_engine(self, engine: Engine) -> None:
        """Note that another engine leads to the database, so that it connects again after a restore."""
        self._service.note_engine(self.name, engine)

    def changes(self) -> Changes:
        """What differs in the database from its template.

        Raises:
            ElefastError: The database cannot be read.
        """
        return self._service.changes.since_template(self.name, self._service.scenario(self._scenario))

    def uncommitted(self) -> Sequence[str]:
        """The sessions that have changes in the database that are not committed, in words."""
        return self._service.changes.uncommitted(self.name)

    def end_test(self) -> None:
        """Do nothing; `TransactionCheckout` needs to know when the test ends."""

    def release(self, *, failed: bool = False, keep: str = "never", wait: bool = False) -> list[Leak]:
        """Release the database to the pool, which ends the connections that are still open.

        Args:
            failed: Whether the test failed.
            keep: ``never``, ``failed`` or ``always``: whether the database stays for inspection.
            wait: Wait until the database is reset or dropped, and return the leaks that this found. Otherwise the pool
                does that in the background.
        """
        if self._sync is not None:
            self._service.dispose(self.name, self._sync.engine)
        if keep == "always" or (keep == "failed" and failed):
            return self._service.keep_database(self.name, self.test)
        return self._service.release(self.name, self.test, wait=wait)

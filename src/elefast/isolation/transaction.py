"""``isolation = "transaction"``: a transaction in the shared database for one test.

The test's sessions see what the test commits, and no other session of the server does. When the test ends, all of it
is rolled back. If that fails, the database is dropped, and the next test gets a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine

from elefast.databases.report import Leak
from elefast.databases.service import DatabaseService
from elefast.isolation.engine import SharedConnectionEngine
from elefast.isolation.outer_transaction import OuterTransaction
from elefast.isolation.shared_database import SharedDatabase
from elefast.sync import Database, DatabaseServer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from elefast.asyncio import AsyncDatabase, AsyncDatabaseServer

__all__ = ["NOWHERE", "TransactionCheckout"]

NOWHERE = "isolation-is-transaction.elefast.invalid"
"""The host in the URLs of this isolation, which must not be connected to. RFC 6761 reserves .invalid."""

_DROPPED = (
    "the database was thrown away, and the next test has a fresh one. Such a test needs a database of its own: "
    '@pytest.mark.elefast(isolation="database")'
)

_NOT_ALONE = "was not alone: another session was connected to the database that all tests share"
_OR_BEFORE = ", now or up to a second before"

SESSION_OPTIONS: Mapping[str, Any] = {"join_transaction_mode": "create_savepoint"}


class TransactionCheckout:
    """The shared database, checked out by one test. It has the attributes of `DatabaseCheckout`.

    Args:
        service: The service that the database is from.
        server: The server of the sync view.
        async_server: Gives the server of the async view.
        shared: The database.
        test: The node id of the test.
        scenario: The scenario that the database starts from; None for the one that tests start from.
    """

    session_options: Mapping[str, Any] = SESSION_OPTIONS
    is_private = False

    def __init__(
        self,
        service: DatabaseService,
        server: DatabaseServer,
        async_server: Callable[[], AsyncDatabaseServer],
        shared: SharedDatabase,
        test: str,
        scenario: str | None = None,
    ) -> None:
        self._service = service
        self._server = server
        self._async_server = async_server
        self._shared = shared
        self._transaction = OuterTransaction(test, shared)
        self._engine: SharedConnectionEngine | None = None
        self._async_engine: AsyncEngine | None = None
        self._sync: Database | None = None
        self._async: AsyncDatabase | None = None
        self.name = shared.name
        self.test = test
        self._scenario = scenario

    @property
    def engine(self) -> Engine:
        """An engine for sync sessions; no other code may connect with it."""
        if self._engine is None:
            self._engine = self._shared.engine("sync", self._transaction)
        return self._engine

    @property
    def async_engine(self) -> AsyncEngine:
        """An engine for async sessions; no other code may connect with it."""
        if self._async_engine is None:
            self._async_server()  # first, because its error names the package to install
            from sqlalchemy.ext.asyncio import AsyncEngine

            self._async_engine = AsyncEngine(self._shared.engine("async", self._transaction))
        return self._async_engine

    @property
    def sync(self) -> Database:
        """The view with a sync engine.

        Raises:
            RefusedError: The test has the other view already.
        """
        self._transaction.require_kind("sync")
        if self._sync is None:
            self._sync = Database(self.engine, self._server, self._server.sessionmaker_factory)
            self._sync.sessionmaker.configure(**SESSION_OPTIONS)
            self._sync.facts = self._service.facts(self._scenario)
            self._sync.session_options = SESSION_OPTIONS
            self._sync.role_engine = partial(self._shared.role_engine, "sync", self._transaction)  # type: ignore[method-assign]
        return self._sync

    @property
    def async_(self) -> AsyncDatabase:
        """The view with an async engine.

        Raises:
            RefusedError: The test has the other view already.
        """
        self._transaction.require_kind("async")
        if self._async is None:
            from elefast.asyncio import AsyncDatabase

            server = self._async_server()
            self._async = AsyncDatabase(self.async_engine, server, server.sessionmaker_factory)
            self._async.sessionmaker.configure(**SESSION_OPTIONS)
            self._async.facts = self._service.facts(self._scenario)
            self._async.session_options = SESSION_OPTIONS
            self._async.role_engine = partial(self._shared.role_engine, "async", self._transaction)  # type: ignore[method-assign]
        return self._async

    def url_for(self, driver: str) -> URL:
        """A URL with a host that does not exist, because a connection by it would write outside of the transaction."""
        return URL.create(driver, username="elefast", host=NOWHERE, database=self.name)

    def note_engine(self, engine: Engine) -> None:
        """Do nothing; this database is never restored."""

    def end_test(self) -> None:
        """Note that the test only closes what it has open from now on."""
        self._transaction.savepoints.only_closing = True

    def release(self, *, failed: bool = False, keep: str = "never", wait: bool = False) -> list[Leak]:
        """Roll back. If that is not enough, drop the database, and return the reason as a leak.

        Args:
            failed: Not used, because the writes of a failed test are rolled back as well.
            keep: Not used, for the same reason.
            wait: Wait until the database is dropped.
        """
        self._transaction.release()
        verified = self._transaction.verified_exclusive and self._shared.exclusive_condition()
        if not verified and not self._transaction.lost and not self._shared.was_alone():
            self._transaction.mark_lost(_NOT_ALONE + ("" if self._shared.counts_at_once else _OR_BEFORE))
        if not self._transaction.lost:
            self._shared.close_changed_session(self._transaction)
            self._service.cluster_leak_detector.ended(self.test, rolled_back=True)
            return []
        self._shared.retire()
        leaks = self._service.release(self.name, self.test, wait=wait)
        return [Leak(self.test, _DROPPED, self._transaction.lost), *leaks]

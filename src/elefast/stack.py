"""A stack: the server, the template and the databases of one configuration, for as long as they are needed.

The public face: settings, servers, databases, a report. What runs behind it is `elefast.databases.service`, and
nothing starts before something is used.
"""

from __future__ import annotations

import atexit
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import URL, Engine

from elefast.databases.report import Kept, Leak, Report
from elefast.databases.service import Running
from elefast.databases.service_backend import AsyncBacking, SyncBacking
from elefast.errors import ClosedError, ElefastError, MissingDependencyError, RefusedError
from elefast.isolation.database import LentDatabase
from elefast.postgres.session_counts import visitors
from elefast.postgres.urls import shown
from elefast.runtime.signals import close_unfinished, deferred
from elefast.sync import DatabaseServer

if TYPE_CHECKING:
    from elefast.asyncio import AsyncDatabaseServer
    from elefast.config import Settings
    from elefast.config.provenance import Origin
    from elefast.databases.admin import Upkeep
    from elefast.databases.leak_detector import Findings
    from elefast.databases.spec import Blueprint
    from elefast.isolation.shared_database import LentTransaction, SharedDatabase
    from elefast.migrators import Plan

__all__ = ["Stack"]


class Stack:
    """The server, the template and the databases of one configuration; made by `elefast.from_config`.

    Args:
        blueprint: What it is made from.
        on_close: Told when it is closed, so that a cache can forget it.
    """

    def __init__(self, blueprint: Blueprint, on_close: Callable[[Stack], None] = lambda stack: None) -> None:
        _stop_retired()
        self._blueprint = blueprint
        self._on_close = on_close
        self._lock = threading.RLock()
        self._running: Running | None = None
        self._failed: ElefastError | None = None
        self._closed = False
        self._shared: SharedDatabase | None = None
        self.server = DatabaseServer.over(SyncBacking(self))
        self._async_server: AsyncDatabaseServer | None = None

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The validated settings."""
        return self._blueprint.settings()

    @property
    def project(self) -> str:
        """The name of the project, which its templates bear as well."""
        return self._blueprint.project

    @property
    def provenance(self) -> Mapping[str, Origin]:
        """Where each value comes from, by its dotted key."""
        return self._blueprint.provenance

    @property
    def migrator(self) -> Plan | None:
        """What databases are made from, as a migrator for servers made by hand; None for empty databases."""
        return self._blueprint.recipe

    @property
    def url(self) -> URL:
        """The server's URL with the configured sync driver and the password; starts the server."""
        return self.url_for(self._blueprint.driver)

    @property
    def async_server(self) -> AsyncDatabaseServer:
        """The server, for asyncio."""
        with self._lock:
            if self._async_server is None:
                try:
                    from elefast.asyncio import AsyncDatabaseServer
                except ImportError as error:
                    raise MissingDependencyError(
                        f"SQLAlchemy's asyncio half cannot be used here ({error}). "
                        'Install what it needs: pip install "elefast[asyncio]"',
                        code="asyncio-missing",
                    ) from error

                self._async_server = AsyncDatabaseServer.over(AsyncBacking(self))
            return self._async_server

    @property
    def async_driver(self) -> str:
        """The driver of async engines, such as ``postgresql+asyncpg``."""
        return self._blueprint.async_driver

    def url_for(self, driver: str = "", database: str | None = None) -> URL:
        """A URL of the server; starts it.

        Args:
            driver: Such as ``postgresql+asyncpg``; the configured sync driver where empty.
            database: Instead of the maintenance database.
        """
        return self._use().url_for(driver, database)

    # -- databases ------------------------------------------------------------------------------------------

    def open(self, test: str = "") -> LentDatabase:
        """Lend a database, for both sync and async use; `LentDatabase.release` gives it back.

        Args:
            test: The node id of the test, for messages.
        """
        running = self._use()
        name = running.take(test=test)
        running.watch.began(test)
        running.checkouts.began(name, test)
        return LentDatabase(self, name, test)

    def join(self, test: str = "") -> LentTransaction:
        """Lend the database that all tests share which do with a transaction; made when the first one asks.

        Args:
            test: The node id of the test, for messages.
        """
        from elefast.isolation.shared_database import LentTransaction, SharedDatabase

        running = self._use()
        with self._lock:
            if self._shared is None or not self._shared.is_ours:
                name = self.create("elefast_shared", "utf8")
                counts = self._use().control.session.facts.version >= 150000
                self._shared = SharedDatabase(self, name, counts=counts, before=self.visitors(name)[0])
            running.watch.began(test)
            return LentTransaction(self, self._shared, test, self._discard)

    def leave(self, test: str) -> None:
        """What `join` lent to `test` was rolled back."""
        if self._running is not None:
            self._running.watch.ended(test, undone=True)

    def check_not_shared(self, name: str) -> None:
        """See that database `name` is one test's own.

        Raises:
            RefusedError: Tests share it.
        """
        if self._shared is not None and self._shared.name == name:
            raise RefusedError(
                f'database "{name}" is not dropped: with isolation = "transaction" all tests share it. '
                'Give the test one of its own: @pytest.mark.elefast(isolation="database")',
                code="shared-database",
            )

    def visitors(self, name: str) -> tuple[int, int, str]:
        """The client sessions that database `name` ever had, those that it has now, and since when they are counted."""
        return self._use().control.session.call(visitors, name)

    def leaks(self) -> list[Leak]:
        """The leaks that the background found since this was last asked."""
        running = self._running
        if running is None:
            return []
        found, running.leaks = running.leaks, []
        return found

    def holders(self, error: BaseException) -> list[str]:
        """Who has the server's connections, for a message, where `error` says that there are no more."""
        running = self._running
        return running.control.holders(error) if running is not None and running.is_ours else []

    def findings(self) -> Findings | None:
        """What this process saw of changes to what all databases share; see `leak_detector.leaks_of`."""
        return None if self._running is None else self._running.watch.findings()

    @property
    def kept(self) -> list[Kept]:
        """The databases that were kept for a look."""
        return [] if self._running is None else self._running.report.kept

    def report(self) -> Report:
        """What the stack did so far."""
        return Report() if self._running is None else self._running.report

    def engine(self, name: str) -> Engine:
        """A new sync engine to database `name`."""
        return self._use().engine(name)

    def async_engine(self, name: str) -> Engine:
        """The sync side of a new async engine to database `name`."""
        return self._use().async_engine(name)

    def withdraw(self, name: str) -> None:
        """Close what is connected to database `name` ahead of its engine, as its test may connect by itself."""
        running = self._running
        if running is not None and running.is_ours:
            running.withdraw(name)

    def give_back(self, name: str, test: str = "", *, wait: bool = False) -> list[Leak]:
        """Drop database `name` of `test` in the background; where `wait`, now, and say what was left open on it."""
        return [] if self._running is None else self._running.give_back(name, test, wait=wait)

    def keep(self, name: str, test: str) -> list[Leak]:
        """Keep database `name` for a look instead of dropping it, and say what was left open on it."""
        return self._use().keep(name, test)

    def upkeep(self, timeout: float = 30) -> Upkeep:
        """The server for whoever looks after it; starts it, and changes nothing on it by itself.

        Args:
            timeout: Seconds that it may take to answer.
        """
        from elefast.databases.admin import Upkeep

        running = self._use(sweeps=False, timeout=timeout)
        return Upkeep(running.control, running.lease, self.project)

    def create(self, prefix: str, encoding: str) -> str:
        """Make a database for somebody who made no `open`."""
        return self._use().take(prefix, encoding)

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        """Start the server and wait until it answers."""
        self._use().control.ensure_ready(timeout, interval)

    # -- lifetime -------------------------------------------------------------------------------------------

    def server_runs(self) -> bool:
        """Whether the server runs already, so that using it would start none; starts nothing.

        Raises:
            ElefastError: It cannot be told, such as where no provider could give one.
        """
        return self._running is not None or self._blueprint.provider.running()

    @property
    def started(self) -> bool:
        """Whether a server was needed so far."""
        return self._running is not None

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @deferred()
    def close(self) -> None:
        """Drop the databases, let go of the server; safe to repeat. A first Ctrl-C meanwhile waits for its end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            running = self._running
            try:
                self._discard()
                if running is not None:
                    running.stop()
            finally:
                self._on_close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from asyncio import to_thread

        close_unfinished(error)  # what is being handled is known in this thread only
        await to_thread(self.close)

    def __del__(self) -> None:
        running = getattr(self, "_running", None)
        if running is not None and not self._closed and running.is_ours:
            text = f"{self!r} was not closed"
            self._closed = True
            # The garbage collector runs in any thread, also while that holds a lock which stopping needs.
            _retired.append(running)
            # Last, since a filter may make an error of it.
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started"
        if self._running is not None and not self._closed:
            state = shown(self._running.lease.url)
        return f"<Stack of {self._blueprint.project}: {state}>"

    def _discard(self) -> None:
        """Let go of the shared database; whoever asks next has another one."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()

    def _use(self, *, sweeps: bool = True, timeout: float = 30) -> Running:
        """What runs, started if need be; with a sweep of what dead runs left unless somebody only looks.

        What failed once is not tried again: a server that does not answer would cost every test half a minute.
        """
        running = self._running
        if running is not None and not self._closed and running.is_ours:
            return running
        with self._lock:
            if self._closed:
                raise ClosedError(f"{self!r} was closed; call elefast.from_config() again.", code="closed")
            if self._failed is not None:
                raise self._failed.with_traceback(None)
            if self._running is None or not self._running.is_ours:
                try:
                    self._running = Running.start(self._blueprint, self._running, sweeps, timeout)
                except ElefastError as error:
                    self._failed = error
                    raise
            return self._running


_retired: deque[Running] = deque()


@atexit.register
def _stop_retired() -> None:
    """Stop what ran for stacks that nobody has any more."""
    while _retired:
        try:
            running = _retired.popleft()
        except IndexError:  # another thread was quicker
            return
        running.stop()

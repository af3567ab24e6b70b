"""A stack: the server, the template and the databases of one configuration, for as long as they are needed.

It is the public face of `elefast.databases.service`, which starts when something is first used.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import URL

from elefast.databases.backend import ServiceBackend
from elefast.databases.report import Report
from elefast.databases.service import DatabaseService
from elefast.errors import (
    ClosedError,
    ConfigurationError,
    ElefastError,
    MissingDependencyError,
    Problem,
    RefusedError,
)
from elefast.isolation.database import DatabaseCheckout
from elefast.postgres.urls import display_url
from elefast.runtime.process_lifetime import Retired
from elefast.runtime.signals import close_unfinished, defer_interrupts
from elefast.sync import Database, DatabaseServer

if TYPE_CHECKING:
    from elefast.asyncio import AsyncDatabase, AsyncDatabaseServer
    from elefast.config import Settings
    from elefast.config.provenance import Origin
    from elefast.databases.admin import ServerAdmin
    from elefast.databases.spec import ServiceSpec
    from elefast.isolation.shared_database import SharedDatabase
    from elefast.isolation.transaction import TransactionCheckout
    from elefast.migrators import Plan

__all__ = ["Stack"]


class Stack:
    """The server, the template and the databases of one configuration; made by `elefast.from_config`.

    Args:
        spec: What the service is made from.
        settings: Gives the validated settings; they are not validated before they are asked for.
        provenance: Where each value of the settings comes from, by its dotted key.
        migrator: What databases are made from; None for empty ones.
        on_close: Called when the stack is closed, so that a cache can forget it.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        *,
        settings: Callable[[], Settings],
        provenance: Mapping[str, Origin],
        migrator: Plan | None,
        on_close: Callable[[Stack], None] = lambda stack: None,
    ) -> None:
        _retired.close()
        self._spec = spec
        self._settings = settings
        self._on_close = on_close
        self._lock = threading.RLock()
        self._service: DatabaseService | None = None
        self._failed: ElefastError | None = None
        self._closed = False
        self._shared: dict[str, SharedDatabase] = {}
        """The databases of tests with ``isolation = "transaction"``, by scenario."""
        self._async_server: AsyncDatabaseServer | None = None
        self.provenance = provenance
        """Where each value of the settings comes from, by its dotted key."""
        self.migrator = migrator
        """What databases are made from, as a migrator for servers made by hand; None for empty databases."""
        self.server = DatabaseServer.over(ServiceBackend(lambda: self.service))
        """The server."""

    @property
    def settings(self) -> Settings:
        """The validated settings."""
        return self._settings()

    @property
    def project(self) -> str:
        """The name of the project, which its templates bear as well."""
        return self._spec.templates.project

    @property
    def url(self) -> URL:
        """The server's URL with the configured sync driver and the password; starts the server."""
        return self.service.url_for()

    @property
    def async_server(self) -> AsyncDatabaseServer:
        """The server, for asyncio.

        Raises:
            MissingDependencyError: SQLAlchemy's asyncio half cannot be used here.
        """
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

                backend = ServiceBackend(lambda: self.service, is_async=True)
                self._async_server = AsyncDatabaseServer.over(backend)
            return self._async_server

    # -- what fixtures get -----------------------------------------------------------------------------------

    @contextmanager
    def database(self, *, scenario: str | None = None, application: bool = False) -> Generator[Database]:
        """A private database for a fixture of any scope; released at the end of the ``with`` block.

        Args:
            scenario: The state that it starts from; None for the project's default, empty for the seeded template.
            application: Lead `export_env` and `patch` to it meanwhile, so that an application or a client can use it.
                A test that requests a private database leads them to that one while it runs.

        Raises:
            RefusedError: `application` is given outside of a run of pytest.
        """
        checkout = self.checkout(_FIXTURE, scenario=scenario)
        try:
            with _leading_application_to(checkout) if application else nullcontext():
                yield checkout.sync
        finally:
            checkout.release()

    @asynccontextmanager
    async def async_database(
        self, *, scenario: str | None = None, application: bool = False
    ) -> AsyncGenerator[AsyncDatabase]:
        """A private database for an async fixture of any scope; see `database`."""
        from asyncio import to_thread

        checkout = await to_thread(self.checkout, _FIXTURE, scenario=scenario)
        try:
            with _leading_application_to(checkout) if application else nullcontext():
                database = checkout.async_
                try:
                    yield database
                finally:
                    await database.engine.dispose()
        finally:
            await to_thread(checkout.release)

    # -- what tests get -------------------------------------------------------------------------------------

    def checkout(
        self, test: str = "", *, scenario: str | None = None, upcoming: Sequence[str] = ()
    ) -> DatabaseCheckout:
        """Check out a private database, for both sync and async use.

        Args:
            test: The node id of the test, for messages.
            scenario: The scenario that it starts from, empty for none; None for the one that tests start from.
            upcoming: The scenarios of the tests after this one, as far as they are known.

        Raises:
            ConfigurationError: There is no such scenario.
        """
        self.check_scenario(scenario)
        service = self.service
        name = service.checkout(test=test, scenario=scenario, upcoming=upcoming)
        service.cluster_leak_detector.began(test)
        service.checkouts.began(name, test)
        return DatabaseCheckout(service, self.server, lambda: self.async_server, name, test, scenario)

    def check_scenario(self, scenario: str | None, origin: str = "") -> None:
        """Check that a scenario exists, before anything starts.

        Args:
            scenario: Its name; empty or None for none.
            origin: Where the name was written, for the error.

        Raises:
            ConfigurationError: There is no such scenario.
        """
        if not scenario:
            return
        known = self._spec.recipe.scenarios if self._spec.recipe is not None else ()
        if scenario not in known:
            from elefast.config.scenarios import unknown_scenario

            problem = Problem(origin, "scenario", unknown_scenario(scenario, known), code="unknown-scenario")
            raise ConfigurationError([problem])

    def checkout_transaction(self, test: str = "", *, scenario: str | None = None) -> TransactionCheckout:
        """Check out the database that tests with ``isolation = "transaction"`` share; made for the first of them.

        Args:
            test: The node id of the test, for messages.
            scenario: The scenario that it starts from; None for the one that tests start from. Each has a database.
        """
        self.check_scenario(scenario)
        state = self._spec.scenario if scenario is None else scenario
        from elefast.isolation.shared_database import SharedDatabase
        from elefast.isolation.transaction import TransactionCheckout

        service = self.service
        with self._lock:
            shared = self._shared.get(state)
            if shared is None or not shared.usable:
                name = service.checkout("elefast_shared", scenario=state)
                service.shared.add(name)
                at_once = service.manager.session.server_info.version >= 150000
                earlier = service.session_counts(name)[0]
                shared = SharedDatabase(service, name, counts_at_once=at_once, earlier_sessions=earlier)
                self._shared[state] = shared
            service.cluster_leak_detector.began(test)
            return TransactionCheckout(service, self.server, lambda: self.async_server, shared, test, state)

    # -- what it did, and what runs -------------------------------------------------------------------------

    def report(self) -> Report:
        """What the stack has done so far."""
        return Report() if self._service is None else self._service.report

    @property
    def started(self) -> DatabaseService | None:
        """The service, where something was used so far; this starts nothing."""
        return self._service

    @property
    def service(self) -> DatabaseService:
        """The service of this process; started with a sweep of dead runs' databases if it is not running.

        Raises:
            ElefastError: It could not be started. The same error is raised each time: a server that does not answer
                would cost every test half a minute.
        """
        service = self._service
        if service is not None and not self._closed and service.is_ours:
            return service
        return self._start()

    def admin(self, timeout: float = 30) -> ServerAdmin:
        """The server, for commands that list databases and clean up. This starts the server, but changes nothing on it.

        Args:
            timeout: Seconds that the server may take to answer.
        """
        from elefast.databases.admin import ServerAdmin

        service = self._start(sweeps=False, timeout=timeout)
        return ServerAdmin(service.manager, service.lease, self.project)

    def server_runs(self) -> bool:
        """Whether the server runs already, so that using the stack would not start one; this starts nothing.

        Raises:
            ElefastError: The provider cannot tell, or there is none.
        """
        return self._service is not None or self._spec.provider.running()

    def _start(self, *, sweeps: bool = True, timeout: float = 30) -> DatabaseService:
        with self._lock:
            if self._closed:
                raise ClosedError(f"{self!r} was closed; call elefast.from_config() again.", code="closed")
            if self._failed is not None:
                raise self._failed.with_traceback(None)
            if self._service is None or not self._service.is_ours:
                try:
                    self._service = DatabaseService.start(self._spec, self._service, sweeps, timeout)
                except ElefastError as error:
                    self._failed = error
                    raise
            return self._service

    # -- its end --------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @defer_interrupts()
    def close(self) -> None:
        """Drop the databases and release the server; safe to repeat. A first Ctrl-C meanwhile waits for its end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                for shared in self._shared.values():
                    shared.retire()
                if self._service is not None:
                    self._service.stop()
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

        close_unfinished(error)  # here, because the other thread does not see the exception
        await to_thread(self.close)

    def __del__(self) -> None:
        service = getattr(self, "_service", None)
        if service is not None and not self._closed and service.is_ours:
            text = f"{self!r} was not closed"
            self._closed = True
            _retired.add(service)
            # Last, since a filter may make an error of it.
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started"
        if self._service is not None and not self._closed:
            state = display_url(self._service.lease.url)
        return f"<Stack of {self.project}: {state}>"


def _leading_application_to(checkout: DatabaseCheckout) -> AbstractContextManager[None]:
    """Lead `export_env` and `patch` to the database of a checkout while the context lasts."""
    from elefast.config import current_run

    run = current_run.current()
    if run is None or run.leading_application_to is None:
        raise RefusedError(
            "application=True leads `export_env` and `patch` to the database, which only elefast's plugin for pytest "
            "can do, and no run of pytest has it now.\nCall it in a fixture, or without application=True",
            code="no-application",
        )
    return run.leading_application_to(checkout)


_FIXTURE = "a fixture with Stack.database()"
"""Stands for the node id of a test, in messages."""

_retired = Retired(DatabaseService.stop)

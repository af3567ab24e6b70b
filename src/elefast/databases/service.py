"""The service behind a stack: a lease on the server, a pool of databases, and engines for each of them.

It counts its work for the report. It must not know settings and fixtures.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import time
import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from elefast.databases.changes import ChangeReader
from elefast.databases.cluster_leak_detector import ClusterLeakDetector
from elefast.databases.current_checkouts import CurrentCheckouts
from elefast.databases.histogram import Histogram
from elefast.databases.manager import DatabaseManager
from elefast.databases.pool import DatabasePool, leaks_of
from elefast.databases.preconnect import Preconnector
from elefast.databases.report import Kept, Leak, Report, bypassed_policies
from elefast.databases.resetter import DatabaseResetter
from elefast.databases.roles import RoleManager
from elefast.databases.snapshots import DatabaseSnapshots, TakenSnapshot
from elefast.errors import ConfigurationError, ElefastError, RefusedError, ServerError
from elefast.postgres import cluster_snapshot, libpq_variables, roles, server
from elefast.postgres.connections.connectors import connector_to, connectors_to
from elefast.postgres.connections.dialect_cache import DialectCache
from elefast.postgres.connections.engines import maintenance_engine, require_driver
from elefast.postgres.connections.maintenance_session import GRACE, MaintenanceSession
from elefast.postgres.databases import session_counts
from elefast.postgres.drop_blockers import Leftover
from elefast.postgres.urls import asyncpg_without_tls, dsn, with_driver
from elefast.runtime import clock, progress
from elefast.runtime.process_lifetime import OwnerProcess

if TYPE_CHECKING:
    from elefast.databases.spec import ServiceSpec
    from elefast.postgres.row_security import RowSecurity
    from elefast.providers.protocol import Lease

__all__ = ["DatabaseService"]

_log = logging.getLogger("elefast")

_ROOM_FOR = 8
"""How many databases must fit on the disk for the pool to make one that no test has asked for."""


class DatabaseService:
    """The databases of a stack in one process, from the first use of the stack to its end.

    Args:
        spec: The options.
        lease: The lease on the server.
    """

    def __init__(self, spec: ServiceSpec, lease: Lease) -> None:
        self._owner = OwnerProcess()
        self.lease = lease
        self._leaks: list[Leak] = []
        self.cluster_leak_detector = ClusterLeakDetector()
        self.shared: set[str] = set()
        """The databases that several tests share, which no single test may drop."""
        self.checkouts = CurrentCheckouts(spec.templates.project, os.environ)
        self.manager = DatabaseManager(
            lease.url,
            connectors_to(lease.url, owned=lease.owned),
            connector_to=partial(connector_to, lease.url, owned=lease.owned),
            recipe=spec.recipe,
            options=spec.templates,
            owned=lease.owned,
            requirement=spec.requirement,
            ended=lease.ended,
            roles=RoleManager(spec.roles.declared, project=spec.templates.project, owned=lease.owned),
        )
        self._spec = spec
        self._maintenance_engine = partial(maintenance_engine, lease.url, owned=lease.owned)
        self._resetter = self._new_resetter()
        self.report = Report(
            lease.provider,
            lease.reason,
            lease.description,
            clone=self.manager.clones,
            drop=self.manager.drops,
            restore=self._resetter.resets if self._resetter is not None else Histogram(),
        )
        self.preconnector = Preconnector(self._new_engine, spec.engines.keywords, self._on_connect)
        self._async_dialects = DialectCache()
        self.pool = DatabasePool(
            self.manager,
            size=spec.pool.size,
            limit=spec.pool.max,
            resetter=self._resetter,
            preconnector=self.preconnector,
            has_room=self._has_room,
            inspect=self._detect_cluster_changes,
        )
        self.snapshots = DatabaseSnapshots(
            self.manager,
            resetter=self._new_resetter(),
            engine=self._maintenance_engine,
            discard=self.pool.discard,
        )
        self.changes = ChangeReader(self.manager)
        self._engines: dict[str, weakref.WeakSet[Engine]] = {}
        """The engines to each database that is checked out."""
        self._size = -1
        self._templates_used: set[str] = set()
        """The scenarios whose templates this process has."""

    @classmethod
    def start(cls, spec: ServiceSpec, inherited: DatabaseService | None, sweeps: bool, timeout: float) -> Self:
        """Get a server and connect to it. A forked child shares the server of its parent, and nothing else.

        Args:
            spec: The options.
            inherited: In a forked child, the service of its parent; else None.
            sweeps: Whether to sweep the databases of dead runs first.
            timeout: Seconds that the server may take to answer.
        """
        start = clock.now()
        owned = spec.url is None
        if owned:
            libpq_variables.hidden_variables.acquire(spec.libpq_variables())
        try:
            with _adding_origins(spec.origins):
                # A new server has no template. The process that builds one takes as long to start as the server, so it
                # starts at the same time.
                prepare = spec.recipe.prepare if spec.recipe is not None else lambda: None
                with progress.show("waiting for the server", workers="first"):
                    lease = spec.provider.acquire(prepare) if inherited is None else inherited.lease
            service = cls(spec, lease)
        except BaseException:
            if owned:
                libpq_variables.hidden_variables.release()
            raise
        service.manager.sweeps = sweeps
        try:
            with progress.show("waiting for the server", workers="first"):
                service.manager.ensure_ready(timeout)
        except BaseException as error:
            service.stop()
            place = str(spec.origins.get("engine.url", "default"))
            if isinstance(error, (ServerError, RefusedError)) and lease.provider == "url" and place != "default":
                # The last note says where to read more, so this one goes first.
                error.__notes__ = [f"engine.url is set in {place}", *getattr(error, "__notes__", ())]
            raise
        service.report.start_seconds = clock.now() - start
        return service

    @property
    def is_ours(self) -> bool:
        """Whether this process made it; False in a forked child."""
        return self._owner.is_current

    def url_for(self, driver: str = "", database: str | None = None) -> URL:
        """A URL of the server, with the configured sync driver if no other is named."""
        return with_driver(self.lease.url, driver or self._spec.engines.driver, database, written=self._spec.url)

    @property
    def role(self) -> str:
        """The role that tests connect as; empty for the server's user."""
        return self._spec.roles.tests

    def test_url(self, name: str, driver: str = "", role: str | None = None, *, logs_in: bool = True) -> URL:
        """The URL of database `name` for a test.

        Args:
            name: The name of the database.
            driver: The driver, if not the configured sync driver.
            role: A declared role; empty for the server's user, None for the role that tests connect as.
            logs_in: Whether sessions will log in by the URL.

        Raises:
            ConfigurationError: The role is not declared.
            DatabaseNotReadyError: The role cannot log in.
        """
        url = self.url_for(driver, name)
        role = self.role if role is None else role
        return self.manager.roles.url_for(url, role, self.manager.session, logs_in=logs_in)

    @property
    def async_driver(self) -> str:
        """The driver of async engines, such as ``postgresql+asyncpg``."""
        return self._spec.engines.async_driver

    def engine(self, name: str) -> Engine:
        """A new sync engine to database `name`. Its first connection may be open already, which tests do not notice."""
        engine = self.preconnector.engine(name)
        self.note_engine(name, engine)
        return engine

    def note_engine(self, name: str, engine: Engine) -> None:
        """Note that `engine` leads to database `name`, so that it connects again after a restore of the database."""
        self._engines.setdefault(name, weakref.WeakSet()).add(engine)

    def close_preconnection(self, name: str) -> None:
        """Close the connection to database `name` that was opened in advance, and wait until its backend has ended."""
        if pid := self.preconnector.close_preconnection(name):
            deadline = clock.now() + GRACE
            while self.manager.session.call(server.backend_state, pid) and clock.now() < deadline:
                time.sleep(0.001)

    def dispose(self, name: str, engine: Engine) -> None:
        """Close the connections of `engine` to database `name`, whose test is over.

        The session that elefast opened in advance may stay open for the next test.
        """
        self.preconnector.expect_return(name)
        engine.dispose()

    def role_engine(self, name: str, role: str, *, is_async: bool = False) -> Engine:
        """A new engine to database `name` as `role`; for an async driver, the sync side of one.

        Args:
            name: The name of the database.
            role: A declared role; empty for the server's user.
            is_async: Whether to make an async engine.
        """
        if is_async:
            return self.async_engine(name, role)
        url = self.test_url(name, role=role)
        require_driver(url)
        engine = create_engine(url, **self._spec.engines.keywords)
        self.note_engine(name, engine)
        return engine

    def async_engine(self, name: str, role: str | None = None) -> Engine:
        """The sync side of a new async engine to database `name`.

        Args:
            name: The name of the database.
            role: As for `test_url`.
        """
        from sqlalchemy.ext.asyncio import create_async_engine

        # A pooled async connection belongs to one event loop, but tests use many.
        options: dict[str, Any] = {"poolclass": NullPool, **self._spec.engines.async_keywords}
        if {"pool_size", "max_overflow"} & options.keys():
            options.pop("poolclass")
        url = self.test_url(name, self.async_driver, role)
        require_driver(url)
        if url.get_driver_name() == "asyncpg" and not self.manager.session.server_info.encrypted:
            options["connect_args"] = asyncpg_without_tls(url, options["connect_args"])
        engine = create_async_engine(url, **options).sync_engine
        self._async_dialects.share(engine, self._on_connect)
        # The session that was opened in advance is one of the tests' own role.
        lends = role is None and url.get_driver_name() == "psycopg"
        if not lends or not self.preconnector.serve_async(name, engine, options["connect_args"]):
            self.close_preconnection(name)  # it is for a sync engine
        self.note_engine(name, engine)
        return engine

    def checkout(
        self,
        prefix: str = "elefast",
        encoding: str = "utf8",
        *,
        test: str = "",
        scenario: str | None = None,
        upcoming: Sequence[str] = (),
    ) -> str:
        """Check out a database: from the pool, unless `prefix` or `encoding` is special.

        Args:
            prefix: The prefix of its name.
            encoding: The encoding of its text.
            test: The node id of the test that waits for it.
            scenario: The scenario that it starts from; None for the one that tests start from.
            upcoming: The scenarios of the tests after this one, as far as they are known.

        Returns:
            The name of the database.
        """
        state = self.scenario(scenario)
        with _adding_origins(self._spec.origins):
            if state not in self._templates_used:
                self._ensure_template(state)
            if not self.report.databases:
                self._detect_cluster_changes(self.manager.session)
            start = clock.now()
            if (prefix, encoding.lower()) == ("elefast", "utf8"):
                name, ready = self.pool.checkout(state, upcoming)
            else:
                (name, _), ready = self.manager.create(prefix, encoding, scenario=state), False
        self.report.waited(test, clock.now() - start)
        self.report.databases += 1
        self.report.from_pool += ready
        return name

    def scenario(self, wanted: str | None) -> str:
        """The scenario that a database starts from where a test has asked for `wanted`, None for the project's."""
        return self._spec.scenario if wanted is None else wanted

    def facts(self, scenario: str | None = None, encoding: str = "utf8") -> Mapping[str, Any]:
        """What the seed functions of a scenario returned; a new read-only mapping, for a database of it."""
        return self.manager.facts(encoding, self.scenario(scenario))

    def has_template(self, scenario: str | None = None) -> bool:
        """Whether a database of the scenario needs neither the server nor the template to be waited for."""
        return (self.scenario(scenario)) in self._templates_used

    def release(self, name: str, test: str = "", *, wait: bool = False) -> list[Leak]:
        """Have database `name` of `test` recycled in the background.

        Args:
            name: The name of the database.
            test: The node id of the test.
            wait: Whether to drop it now, and return what the test left open.

        Returns:
            What the test left open; empty without `wait`, since `take_leaks` has it later.
        """
        start = clock.now()
        self.shared.discard(name)
        self._engines.pop(name, None)
        self.cluster_leak_detector.ended(test)
        self.checkouts.ended(name)
        found: list[Leak] = []
        if wait or not self.pool.release(name, test):
            self.pool.forget(name)
            self.preconnector.close(name)
            self._detect_cluster_changes(self.manager.session)
            found = leaks_of(test, self.manager.drop(name))
            if not wait:
                self._leaks += found
                found = []
        self.snapshots.release(name)
        self.report.release.add(clock.now() - start)
        return found

    def keep_database(self, name: str, test: str) -> list[Leak]:
        """Keep database `name` for inspection instead of dropping it; what the test left open on it."""
        start = clock.now()
        self.cluster_leak_detector.ended(test)
        self.checkouts.ended(name)
        note = {
            "elefast": 1,
            "project": self._spec.templates.project,
            "test": test,
            "kept": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._engines.pop(name, None)
        self.snapshots.release(name)
        self.pool.forget(name)
        self.preconnector.close(name)
        final, stayed = self.manager.keep_database(name, json.dumps(note))
        url = self.lease.url.set(database=final)
        self.report.kept.append(Kept(final, test, dsn(url), f"elefast psql {shlex.quote(final)}"))
        self.lease.hold()
        self.report.release.add(clock.now() - start)
        return leaks_of(test, stayed)

    def take_snapshot(self, name: str) -> tuple[TakenSnapshot, list[Leftover]]:
        """Take a snapshot of database `name`; the snapshot, and the sessions that had to be ended."""
        self._close_idle_connections(name)
        return self.snapshots.take(name)

    def restore(self, name: str, taken: TakenSnapshot) -> list[Leftover]:
        """Restore database `name` from a snapshot; the sessions and objects that had to be ended or cleared."""
        self._close_idle_connections(name)
        if self._resetter is not None:
            self._resetter.forget(name)  # what is known of it is about the database that the snapshot replaces
        return self.snapshots.restore(name, taken)

    def _close_idle_connections(self, name: str) -> None:
        """Close the connections to database `name` that no code uses now; its engines connect again."""
        self.close_preconnection(name)
        for engine in list(self._engines.get(name, ())):
            # A pooled async connection can only be closed in its event loop. It ends with the other sessions.
            engine.dispose(close=not engine.dialect.is_async)

    def _new_resetter(self) -> DatabaseResetter | None:
        if not self._spec.pool.reuse:
            return None
        engines = self._spec.engines
        return DatabaseResetter(
            self.manager,
            self._maintenance_engine,
            connect_options=(self.lease.url.query, engines.keywords, engines.async_keywords),
            tests_have_role=bool(self.role),
        )

    def session_counts(self, name: str) -> tuple[int, int, str]:
        """The client sessions that database `name` ever had, those that it has now, and since when they are counted."""
        return self.manager.session.call(session_counts, name)

    def take_leaks(self) -> list[Leak]:
        """The leaks that were found since this was last called."""
        found, self._leaks = self._leaks, []
        return [*self.pool.take_leaks(), *found]

    def stop(self) -> None:
        """Undo `start` in reverse order. An error in one part does not prevent the others."""
        if not self.is_ours:
            return
        start = clock.now()
        self.checkouts.close()
        self._stop_preparation()
        self.changes.close()
        # A server with kept databases stays, so that a person can inspect them.
        server_ends = self.lease.ephemeral and not self.report.kept
        unused: Mapping[str, Sequence[str]] = {}
        spare_limit = 0 if self.lease.ephemeral else self._spec.pool.size
        try:
            ready = self.pool.close(drop=not server_ends)
            self.preconnector.close_all()
            by_state = self.pool.by_state(ready)
            spare_limit = min(spare_limit, max(1, spare_limit // len(by_state))) if by_state else 0
            unused = {state: self._verified(names[:spare_limit]) for state, names in by_state.items()}
            if self.report.databases:
                self._detect_cluster_changes(self.manager.session)
        finally:
            try:
                self.manager.close(unused=unused, spare_limit=spare_limit, server_ends=server_ends)
            finally:
                self.lease.release()
                if self._spec.url is None:
                    libpq_variables.hidden_variables.release()
                self.report.stop_seconds = clock.now() - start

    def _verified(self, ready: Sequence[str]) -> Sequence[str]:
        """The databases of `ready` that the next run may use."""
        if self._resetter is None or not ready:
            return ready
        try:
            return self._resetter.verified(ready, self.manager.session)
        except (ElefastError, SQLAlchemyError) as error:
            _log.info("left no spare databases for the next run: %s", error)
            return []

    def _ensure_template(self, scenario: str) -> None:
        """Have a template before the first database of a scenario, and count how long that took."""
        start = clock.now()
        try:
            made = self.manager.template(scenario=scenario)
        finally:
            self._stop_preparation()
        self._templates_used.add(scenario)
        self.report.strategy = self.manager.strategy
        if made is not None and self.manager.templates is not None:
            seconds = clock.now() - start
            layers = self.manager.templates.take_used()
            self.report.template, self.report.template_reason = made.name, made.reason
            self._note_bypassed_policies(made.row_security)
            self.report.layers += [(layer.layer, layer.reason, layer.built) for layer in layers]
            self.report.template_seconds += seconds
            builds = sum(layer.built for layer in layers)
            self.report.builds += builds
            self.report.hits += not builds
            if builds:
                self.report.build_seconds += seconds

    def _stop_preparation(self) -> None:
        if self._spec.recipe is not None:
            self._spec.recipe.stop_preparation()

    def _new_engine(self, name: str) -> Engine:
        url = self.test_url(name)
        require_driver(url)
        return create_engine(url, **self._spec.engines.keywords)

    def _note_bypassed_policies(self, secured: RowSecurity) -> None:
        """Note in the report that tests do not see the policies of the template, if that is so."""
        user = self.manager.session.server_info.role
        role = self.role or user
        if not secured.tables or not self.manager.session.call(roles.bypasses_row_security, role, secured.owners):
            return
        declared = [name for name, one in self.manager.roles.declared.items() if not one.bypass_rls and name != role]
        warning = bypassed_policies(secured.tables, role, declared)
        if warning not in self.report.warnings:  # the templates of other scenarios have the same tables
            self.report.warnings.append(warning)

    def _has_room(self) -> bool:
        """Whether the disk (often a RAM disk) of a server on this machine has room for one that may be unused."""
        data_dir: str = getattr(self.lease, "data_dir", "")
        if not data_dir:
            return True
        try:
            if self._size < 0:
                self._size = self.manager.size()
            return shutil.disk_usage(data_dir).free > _ROOM_FOR * self._size
        except (ElefastError, SQLAlchemyError, OSError):
            return False  # a test that asks for a database meets the same error and reports it

    def _detect_cluster_changes(self, session: MaintenanceSession) -> None:
        """Look for changes of the objects that all databases share."""
        if not self._spec.watches_cluster:
            return
        try:
            server_info = session.server_info
            self.cluster_leak_detector.compare(
                lambda: session.call(
                    cluster_snapshot.snapshot,
                    system=server_info.superuser,
                    parameters=server_info.version >= 150000,
                    known_roles=frozenset(self.manager.roles.declared),
                )
            )
        except (ElefastError, SQLAlchemyError) as error:
            # The statement that makes or drops a database meets the same error and reports it.
            _log.info("did not look for changes of cluster objects: %s", error)

    def _on_connect(self, seconds: float) -> None:
        # In a forked child this is the report of the parent.
        if self.is_ours:
            self.report.connect.add(seconds)


@contextmanager
def _adding_origins(provenance: Mapping[str, object]) -> Generator[None]:
    """Add the place of the key to an error about a value that turns out to be wrong only now."""
    try:
        yield
    except ConfigurationError as error:
        placed = error.placed(provenance)
        if placed is error:
            raise
        raise placed from error.__cause__

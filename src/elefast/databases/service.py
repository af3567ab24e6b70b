"""What there is of a stack in one process once it is used: a lease, a control on the server, a pool, engines.

It counts what it does for the report, and knows nothing of settings and fixtures.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from elefast.config import current_run
from elefast.databases.backend import link_to, links_to
from elefast.databases.current_checkouts import Checkouts
from elefast.databases.histogram import Samples
from elefast.databases.leak_detector import Watch
from elefast.databases.manager import Control
from elefast.databases.pool import Pool
from elefast.databases.preconnect import Ahead
from elefast.databases.recycler import Returns
from elefast.databases.report import Kept, Leak, Report
from elefast.databases.resetter import Restorer
from elefast.errors import ConfigurationError, ElefastError, RefusedError, ServerError
from elefast.postgres import cluster_snapshot, libpq, server
from elefast.postgres.connections.dialect_cache import Dialects
from elefast.postgres.connections.engines import maintenance_engine, require_driver
from elefast.postgres.connections.maintenance_session import GRACE, Session
from elefast.postgres.drop_blockers import Blocker, Left, Uncounted
from elefast.postgres.urls import asyncpg_without_tls, dsn, with_driver, without_secrets
from elefast.runtime import clock, progress

if TYPE_CHECKING:
    from elefast.databases.spec import Blueprint
    from elefast.providers import Lease

__all__ = ["Running"]

_log = logging.getLogger("elefast")

_SPARE = 8
"""So many databases must still fit for another one to be made before it is asked for."""


class Running:
    """A stack that runs, in the process that made it.

    Args:
        plan: What it is made from.
        lease: The server.
    """

    def __init__(self, plan: Blueprint, lease: Lease) -> None:
        self.process = os.getpid()
        self.lease = lease
        self.leaks: list[Leak] = []
        self.watch = Watch()
        self.checkouts = Checkouts(plan.project, os.environ)
        self.control = Control(
            lease.url,
            links_to(lease.url, owned=lease.owned),
            link_to=partial(link_to, lease.url, owned=lease.owned),
            recipe=plan.recipe,
            project=plan.project,
            strategy=plan.strategy,
            cache=plan.cache,
            rebuild=plan.rebuild,
            keep=plan.keep,
            max_age=plan.max_age,
            owned=lease.owned,
            requirement=plan.requirement,
            test_run=plan.test_run,
            ended=lease.ended,
        )
        self._restorer = restorer = (
            Restorer(
                self.control,
                partial(maintenance_engine, lease.url, owned=lease.owned),
                connects=(lease.url.query, plan.engine_options, plan.async_engine_options),
            )
            if plan.pool_reuse
            else None
        )
        self.report = Report(
            lease.provider,
            lease.reason,
            lease.description,
            clone=self.control.clones,
            drop=self.control.drops,
            restore=restorer.restored if restorer is not None else Samples(),
        )
        self._plan = plan
        self._ahead = Ahead(self._new_engine, plan.engine_options, self._on_connect)
        self._async_dialects = Dialects()
        returns = Returns(
            self.control,
            on_leak=self._on_leak,
            on_stuck=self._on_stuck,
            on_return=self._look,
            restorer=restorer,
        )
        self._pool = Pool(
            self.control,
            returns,
            size=plan.pool_size,
            limit=plan.pool_max,
            ahead=self._ahead,
            has_room=self._has_room,
        )
        self._size = -1

    @classmethod
    def start(cls, plan: Blueprint, inherited: Running | None, sweeps: bool, timeout: float) -> Self:
        """Get a server and connect to it; a forked child shares its parent's server, and nothing else of it.

        Args:
            plan: What it is made from.
            inherited: What the parent of a forked child had.
            sweeps: Whether what dead runs left goes first.
            timeout: Seconds that the server may take to answer.
        """
        start = clock.now()
        owned = plan.url is None
        if owned:
            current = current_run.current()
            libpq.hidden.acquire(None if current is None else current.variables)
        try:
            with _placing(plan.provenance):
                # A new server has no template, and what builds one takes as long to get ready as the server does.
                prepare = plan.recipe.prepare if plan.recipe is not None else lambda: None
                with progress.show("waiting for the server", workers="first"):
                    lease = plan.provider.acquire(prepare) if inherited is None else inherited.lease
            running = cls(plan, lease)
        except BaseException:
            if owned:
                libpq.hidden.release()
            raise
        running.control.sweeps = sweeps
        try:
            with progress.show("waiting for the server", workers="first"):
                running.control.ensure_ready(timeout)
        except BaseException as error:
            running.stop()
            place = str(plan.provenance.get("engine.url", "default"))
            if isinstance(error, (ServerError, RefusedError)) and lease.provider == "url" and place != "default":
                # The last note says where more is to be read.
                error.__notes__ = [f"engine.url is set in {place}", *getattr(error, "__notes__", ())]
            raise
        running.report.start_seconds = clock.now() - start
        return running

    @property
    def is_ours(self) -> bool:
        """Whether this process made it."""
        return self.process == os.getpid()

    def url_for(self, driver: str = "", database: str | None = None) -> URL:
        """A URL of the server, with the configured sync driver if no other is named."""
        return with_driver(self.lease.url, driver or self._plan.driver, database, written=self._plan.url)

    def engine(self, name: str) -> Engine:
        """A new sync engine to database `name`; its first connection may be open already, which nobody can tell."""
        return self._ahead.engine(name)

    def withdraw(self, name: str) -> None:
        """Close what is connected to database `name` ahead of its engine, and wait until the server has noticed."""
        if pid := self._ahead.withdraw(name):
            deadline = clock.now() + GRACE
            while self.control.session.call(server.state, pid) and clock.now() < deadline:
                time.sleep(0.001)

    def async_engine(self, name: str) -> Engine:
        """The sync side of a new async engine to database `name`."""
        from sqlalchemy.ext.asyncio import create_async_engine

        # A pooled async connection belongs to one event loop, and tests come with many.
        options: dict[str, Any] = {"poolclass": NullPool, **self._plan.async_engine_options}
        if {"pool_size", "max_overflow"} & options.keys():
            options.pop("poolclass")
        url = self.url_for(self._plan.async_driver, name)
        require_driver(url)
        if url.get_driver_name() == "asyncpg" and not self.control.session.facts.encrypted:
            options["connect_args"] = asyncpg_without_tls(url, options["connect_args"])
        engine = create_async_engine(url, **options).sync_engine
        self._async_dialects.share(engine, self._on_connect)
        return engine

    def take(self, prefix: str = "elefast", encoding: str = "utf8", *, test: str = "") -> str:
        """A database: one of the pool's, if nothing special is asked for.

        Args:
            prefix: Of its name.
            encoding: Of its text.
            test: The test that waits for it, by its node id.
        """
        with _placing(self._plan.provenance):
            if not self.report.databases:
                self._see_to_template()
                self._look(self.control.session)
            start = clock.now()
            if (prefix, encoding.lower()) == ("elefast", "utf8"):
                name, ready = self._pool.take()
            else:
                name, ready = self.control.create(prefix, encoding), False
        self.report.waited(test, clock.now() - start)
        self.report.databases += 1
        self.report.from_pool += ready
        return name

    def give_back(self, name: str, test: str, *, wait: bool) -> list[Leak]:
        """Drop database `name` of `test` in the background; where `wait`, now, and say what was left open on it."""
        start = clock.now()
        self.watch.ended(test)
        self.checkouts.ended(name)
        found: list[Leak] = []
        if wait or not self._pool.give_back(name, test):
            self._pool.forget(name)
            self._ahead.close(name)
            self._look(self.control.session)
            found = _leaks(test, self.control.drop(name))
            if not wait:
                self.leaks += found
                found = []
        self.report.release.add(clock.now() - start)
        return found

    def keep(self, name: str, test: str) -> list[Leak]:
        """Keep database `name` for a look instead of dropping it, and say what was left open on it."""
        start = clock.now()
        self.watch.ended(test)
        self.checkouts.ended(name)
        note = {
            "elefast": 1,
            "project": self._plan.project,
            "test": test,
            "kept": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._pool.forget(name)
        self._ahead.close(name)
        final, stayed = self.control.keep(name, json.dumps(note))
        url = self.lease.url.set(database=final)
        # The password of a server of somebody else's has no place in a log.
        psql = f"psql {shlex.quote(dsn(url if self.lease.owned else without_secrets(url)))}"
        self.report.kept.append(Kept(final, test, dsn(url), psql))
        self.lease.hold()
        self.report.release.add(clock.now() - start)
        return _leaks(test, stayed)

    def stop(self) -> None:
        """Undo `start`, in the reverse order, each part whatever becomes of the others."""
        if not self.is_ours:
            return
        start = clock.now()
        self.checkouts.close()
        self._let_go_of_builder()
        # Elsewhere, too, somebody may look at what was kept on this server.
        passing = self.lease.ephemeral and not self.report.kept
        unused: Sequence[str] = []
        leave = 0 if self.lease.ephemeral else self._plan.pool_size
        try:
            ready = self._pool.close(drop=not passing)
            self._ahead.close_all()
            unused = self._proven(ready[:leave])
            if self.report.databases:
                self._look(self.control.session)
        finally:
            try:
                self.control.close(unused=unused, leave=leave, passing=passing)
            finally:
                self.lease.release()
                if self._plan.url is None:
                    libpq.hidden.release()
                self.report.stop_seconds = clock.now() - start

    def _proven(self, ready: Sequence[str]) -> Sequence[str]:
        """Those of the databases `ready` that the next run may have."""
        if self._restorer is None or not ready:
            return ready
        try:
            return self._restorer.proven(ready, self.control.session)
        except (ElefastError, SQLAlchemyError) as error:
            _log.info("left no databases to the next run: %s", error)
            return []

    def _see_to_template(self) -> None:
        """See that there is a template before the first database, and note what that took."""
        start = clock.now()
        try:
            made = self.control.template()
        finally:
            self._let_go_of_builder()
        self.report.strategy = self.control.strategy
        if made is not None:
            self.report.template, self.report.template_reason = made.name, made.reason
            self.report.template_seconds = clock.now() - start
            self.report.builds, self.report.hits = int(made.built), int(not made.built)
            if made.built:
                self.report.build_seconds = self.report.template_seconds

    def _let_go_of_builder(self) -> None:
        if self._plan.recipe is not None:
            self._plan.recipe.let_go()

    def _new_engine(self, name: str) -> Engine:
        url = self.url_for(database=name)
        require_driver(url)
        return create_engine(url, **self._plan.engine_options)

    def _has_room(self) -> bool:
        """Whether the disk of a server on this machine, often its memory, has room for databases made ahead."""
        data_dir: str = getattr(self.lease, "data_dir", "")
        if not data_dir:
            return True
        try:
            if self._size < 0:
                self._size = self.control.size()
            return shutil.disk_usage(data_dir).free > _SPARE * self._size
        except (ElefastError, SQLAlchemyError, OSError):
            return False  # whoever asks for a database meets the same, and can say so

    def _look(self, session: Session) -> None:
        """See what the tests since the last look did to what all databases share."""
        if not self._plan.watches:
            return
        try:
            facts = session.facts
            self.watch.look(
                lambda: session.call(cluster_snapshot.look, system=facts.superuser, parameters=facts.version >= 150000)
            )
        except (ElefastError, SQLAlchemyError) as error:
            # What is wrong with the server, whoever makes or drops a database meets as well, and can say so.
            _log.info("did not see what databases share: %s", error)

    def _on_connect(self, seconds: float) -> None:
        # In a forked child this is the parent's report, and somebody may have held its lock.
        if self.is_ours:
            self.report.connect.add(seconds)

    def _on_leak(self, test: str, leaked: Sequence[Left]) -> None:
        self.leaks += _leaks(test, leaked)

    def _on_stuck(self, test: str, text: str) -> None:
        self.leaks.append(Leak(test, text, "left a database that cannot be dropped"))


@contextmanager
def _placing(provenance: Mapping[str, object]) -> Generator[None]:
    """Say where the key was written of which it turns out only now that its value is wrong."""
    try:
        yield
    except ConfigurationError as error:
        placed = error.placed(provenance)
        if placed is error:
            raise
        raise placed from error.__cause__


def _leaks(test: str, leaked: Sequence[Left]) -> list[Leak]:
    return [_leak(test, left) for left in leaked]


def _leak(test: str, left: Left) -> Leak:
    match left:
        case Blocker():
            return Leak(test, f"{left}, which was cleared", "left behind")
        case Uncounted():
            return Leak(test, str(left), "left behind")
        case _:
            return Leak(test, str(left))

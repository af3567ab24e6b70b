"""The backends of public servers: they make databases, and engines for them.

A server that a user makes uses the given engine or URL (`EngineBackend`). The server of a stack uses the stack's
service (`ServiceBackend`).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

from sqlalchemy import URL, Engine

from elefast.databases.changes import ChangeReader, ChangeWatch
from elefast.databases.manager import DatabaseManager
from elefast.databases.service import DatabaseService
from elefast.databases.snapshots import DatabaseSnapshots, TakenSnapshot
from elefast.errors import RefusedError
from elefast.postgres.connections.connectors import connector_to, connectors_to
from elefast.postgres.connections.engines import EngineFactory, require_driver
from elefast.postgres.drop_blockers import Leftover
from elefast.postgres.urls import as_url
from elefast.runtime.process_lifetime import Retired
from elefast.templates.options import TemplateOptions
from elefast.templates.recipe import recipe_of

__all__ = ["EngineBackend", "ServerBackend", "ServiceBackend"]


class ServerBackend(Protocol):
    """What a public server needs."""

    @property
    def url(self) -> URL:
        """The URL of the server, with the driver of the engines."""
        ...

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        """Wait until the server answers."""
        ...

    def create(self, prefix: str, encoding: str) -> str:
        """Create a database; its name."""
        ...

    def facts(self, encoding: str) -> Mapping[str, Any]:
        """What the seed functions returned for the databases that `create` makes; read-only."""
        ...

    def drop(self, name: str) -> list[Leftover]:
        """Drop database `name`; the sessions and objects that had to be ended or cleared."""
        ...

    def check_committed(self, name: str) -> None:
        """Check that a snapshot of database `name` may be taken, before connections to it are closed."""
        ...

    def take_snapshot(self, name: str) -> tuple[TakenSnapshot, list[Leftover]]:
        """Take a snapshot of database `name`; the snapshot, and the sessions that had to be ended."""
        ...

    def restore(self, name: str, taken: TakenSnapshot) -> list[Leftover]:
        """Restore database `name` from a snapshot; the sessions and objects that had to be ended or cleared."""
        ...

    @property
    def snapshots(self) -> DatabaseSnapshots:
        """The snapshots of this process on the server."""
        ...

    def watch_changes(self, name: str) -> ChangeWatch:
        """Note the state of database `name`, to compare it with a later one."""
        ...

    def engine(self, name: str) -> Engine:
        """A new engine for database `name`; for an async driver, the sync side of one."""
        ...

    def role_engine(self, name: str, role: str) -> Engine:
        """The same as `engine`, with sessions of role `role`; empty for the server's user."""
        ...

    def close_preconnection(self, name: str) -> None:
        """Close the connection to database `name` that was opened before the test asked for one."""
        ...


class EngineBackend:
    """The backend of a server that a user made from an engine, a URL or a string.

    Args:
        target: An `Engine`, an ``AsyncEngine``, a `URL` or a string.
        schema: A migrator, or None for empty databases.
        engine_options: ``create_engine`` keywords for the databases' engines; they override those of `target`.
        echo: Whether to log the SQL of elefast's work as well.
        is_async: Whether the engines are async; a driver such as psycopg is both.
    """

    def __init__(
        self,
        target: Any,
        schema: Any,
        *,
        engine_options: Mapping[str, Any] | None = None,
        echo: bool = False,
        is_async: bool = False,
    ) -> None:
        source = None if isinstance(target, URL | str) else cast("Engine", getattr(target, "sync_engine", target))
        self._url = as_url(target)
        self._engines = EngineFactory(self._url, source, dict(engine_options or {}), is_async)
        self._manager = DatabaseManager(
            self._url,
            connectors_to(source or self._url, echo=echo),
            connector_to=partial(connector_to, source or self._url),
            recipe=None if schema is None else recipe_of(schema, self._engines),
            options=TemplateOptions(project=os.getcwd()),
        )
        self.snapshots = DatabaseSnapshots(self._manager)
        self._changes = ChangeReader(self._manager)
        # A server has no close(): its manager is closed soon after the server is collected, or with the process.
        weakref.finalize(self, _retired.add, self._manager).atexit = False
        _retired.close()

    @property
    def url(self) -> URL:
        return self._url

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        require_driver(self._url)
        self._manager.ensure_ready(timeout, interval)

    def create(self, prefix: str, encoding: str) -> str:
        require_driver(self._url)
        _retired.close()
        name, _ = self._manager.create(prefix, encoding)
        return name

    def facts(self, encoding: str) -> Mapping[str, Any]:
        return self._manager.facts(encoding)

    def drop(self, name: str) -> list[Leftover]:
        dropped = self._manager.drop(name)
        self.snapshots.release(name)
        return dropped

    def check_committed(self, name: str) -> None:
        self.snapshots.check_committed(name)

    def take_snapshot(self, name: str) -> tuple[TakenSnapshot, list[Leftover]]:
        return self.snapshots.take(name)

    def restore(self, name: str, taken: TakenSnapshot) -> list[Leftover]:
        return self.snapshots.restore(name, taken)

    def watch_changes(self, name: str) -> ChangeWatch:
        return self._changes.watch(name)

    def engine(self, name: str) -> Engine:
        return self._engines.make(name)

    def role_engine(self, name: str, role: str) -> Engine:
        if role:
            raise RefusedError(
                f'role "{role}" has no password here: elefast creates and knows the roles of a configuration only. '
                "Take the server from elefast.from_config(), and declare the role with a table "
                f"[tool.elefast.roles.{role}]",
                code="role-without-configuration",
            )
        return self._engines.make(name)

    def close_preconnection(self, name: str) -> None:
        """This backend connects to no database in advance."""


_retired = Retired(DatabaseManager.close)


class ServiceBackend:
    """The backend of a stack's server.

    Args:
        start: Gives the stack's service, which it starts if it is not running.
        is_async: Whether the engines are async.
    """

    def __init__(self, start: Callable[[], DatabaseService], *, is_async: bool = False) -> None:
        self._start = start
        self._is_async = is_async

    @property
    def url(self) -> URL:
        service = self._start()
        return service.url_for(service.async_driver if self._is_async else "")

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        self._start().manager.ensure_ready(timeout, interval)

    def create(self, prefix: str, encoding: str) -> str:
        service = self._start()
        name = service.checkout(prefix, encoding)
        if self._is_async:
            service.close_preconnection(name)  # it is for a sync engine
        return name

    def facts(self, encoding: str) -> Mapping[str, Any]:
        return self._start().facts(encoding=encoding)

    def drop(self, name: str) -> list[Leftover]:
        service = self._start()
        if name in service.shared:
            raise RefusedError(
                f'database "{name}" is not dropped: with isolation = "transaction" all tests share it. '
                'Give the test a private one: @pytest.mark.elefast(isolation="database")',
                code="shared-database",
            )
        service.release(name)
        return []

    @property
    def snapshots(self) -> DatabaseSnapshots:
        return self._start().snapshots

    def check_committed(self, name: str) -> None:
        self._private(name).snapshots.check_committed(name)

    def take_snapshot(self, name: str) -> tuple[TakenSnapshot, list[Leftover]]:
        return self._private(name).take_snapshot(name)

    def restore(self, name: str, taken: TakenSnapshot) -> list[Leftover]:
        return self._private(name).restore(name, taken)

    def watch_changes(self, name: str) -> ChangeWatch:
        return self._private(name).changes.watch(name)

    def _private(self, name: str) -> DatabaseService:
        """The service, if no other test uses database `name`."""
        service = self._start()
        if name in service.shared:
            raise RefusedError(
                'with isolation = "transaction" all tests share one database, so it has neither snapshots nor changes '
                "that another session could see. "
                'Give the test a private one: @pytest.mark.elefast(isolation="database")',
                code="shared-database",
            )
        return service

    def engine(self, name: str) -> Engine:
        service = self._start()
        return service.async_engine(name) if self._is_async else service.engine(name)

    def role_engine(self, name: str, role: str) -> Engine:
        return self._start().role_engine(name, role, is_async=self._is_async)

    def close_preconnection(self, name: str) -> None:
        if not self._is_async:
            self._start().close_preconnection(name)

"""What stands behind a public server: a control, and engines for the databases that it makes.

Built from whatever the user gave: an engine, a URL or a string.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from elefast.databases.manager import Control
from elefast.errors import ElefastError, MigrationError
from elefast.postgres import driver_errors
from elefast.postgres.connections.control_connection import AsyncLink, Link, SyncLink
from elefast.postgres.connections.engines import (
    MAINTENANCE,
    forward_do_connect,
    maintenance_engine,
    options_of,
    private_engine,
    require_driver,
)
from elefast.postgres.connections.maintenance_session import LinkFactory
from elefast.postgres.drop_blockers import Left
from elefast.postgres.urls import as_url
from elefast.runtime import event_loops
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import Manifest
from elefast.templates.store import Recipe

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["Backing", "EngineBacking", "link_to", "links_to"]

OnConnect = Callable[[Connection], None]


class Backing(Protocol):
    """What a server needs: somewhere to make databases, and somebody to make engines."""

    @property
    def url(self) -> URL:
        """The server, with the driver of the engines."""
        ...

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        """Wait until the server answers."""
        ...

    def create(self, prefix: str, encoding: str) -> str:
        """Make a database; its name."""
        ...

    def drop(self, name: str) -> list[Left]:
        """Drop it; what had to be ended or cleared for that."""
        ...

    def engine(self, name: str) -> Engine:
        """An engine for database `name`; for an async driver, the sync side of one."""
        ...

    def withdraw(self, name: str) -> None:
        """Close what is connected to database `name` ahead of its engine."""
        ...


class EngineBacking:
    """The backing of a server that a user made from an engine, a URL or a string.

    Args:
        target: An `Engine`, an ``AsyncEngine``, a `URL` or a string.
        schema: A migrator, or None for empty databases.
        engine_options: ``create_engine`` keywords for the databases' engines, over those of `target`.
        echo: Log the SQL of elefast's own work as well.
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
        self._engines = _Engines(self._url, source, dict(engine_options or {}), is_async)
        self._control = Control(
            self._url,
            links_to(source or self._url, echo=echo),
            link_to=partial(link_to, source or self._url),
            recipe=None if schema is None else _recipe_of(schema, self._engines),
            project=os.getcwd(),
        )
        # A server has no close(); its control goes soon after it, or with the process, whichever comes first.
        # A finalizer may run anywhere, also while another thread holds a lock of `threading`, so it only notes
        # what is to be done.
        weakref.finalize(self, _retired.append, self._control).atexit = False
        _close_retired()

    @property
    def url(self) -> URL:
        return self._url

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        require_driver(self._url)
        self._control.ensure_ready(timeout, interval)

    def create(self, prefix: str, encoding: str) -> str:
        require_driver(self._url)
        _close_retired()
        return self._control.create(prefix, encoding)

    def drop(self, name: str) -> list[Left]:
        return self._control.drop(name)

    def engine(self, name: str) -> Engine:
        return self._engines.make(name)

    def withdraw(self, name: str) -> None:
        """Nothing is connected ahead."""


_retired: deque[Control] = deque()


def _close_retired() -> None:
    """Close the controls of servers that nobody has any more."""
    while _retired:
        try:
            control = _retired.popleft()
        except IndexError:  # another thread was quicker
            return
        control.close()


class _Engines:
    """Makes engines for databases on one server, like the engine that the user gave."""

    def __init__(self, url: URL, source: Engine | None, options: Mapping[str, Any], is_async: bool) -> None:
        self._url = url
        self._source = source
        self._options = options
        self._is_async = is_async
        self._inherited: dict[str, Any] | None = None

    def make(self, name: str) -> Engine:
        if self._inherited is None:
            self._inherited = options_of(self._source) if self._source is not None else {}
        options = {**self._inherited, **self._options}
        url = self._url.set(database=name)
        if self._is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            # A pooled async connection belongs to one event loop, and tests come with many.
            if not {"pool_size", "max_overflow", "poolclass"} & self._options.keys():
                options = {key: value for key, value in options.items() if key not in ("pool_size", "max_overflow")}
                options["poolclass"] = NullPool
            made = create_async_engine(url, **options).sync_engine
        else:
            made = create_engine(url, **options)
        if self._source is not None:
            forward_do_connect(self._source, made)
        return made


def links_to(target: Engine | URL, *, echo: bool = False, owned: bool = False) -> Sequence[LinkFactory]:
    """How to reach a maintenance database on `target`: ``postgres`` first, then the one that `target` names.

    A URL is reached by psycopg; an engine by its own driver, creator and listeners.

    Args:
        target: The server.
        echo: Log the SQL.
        owned: Elefast has started the server; see `maintenance_engine`.
    """
    if isinstance(target, URL):
        names = dict.fromkeys([MAINTENANCE, target.database or MAINTENANCE])
        return [_Sync(partial(maintenance_engine, target, name, owned=owned), echo) for name in names]
    makers: list[Callable[[], Engine]] = [partial(private_engine, target)]
    if target.url.database != MAINTENANCE and "connect_args" in options_of(target):
        makers.insert(0, partial(private_engine, target, MAINTENANCE))
    if _is_async(target):
        return [_Async(maker, echo) for maker in makers]
    return [_Sync(maker, echo) for maker in makers]


def link_to(target: Engine | URL, database: str, *, owned: bool = False, settings: str = "") -> LinkFactory | None:
    """How to reach `database` on `target`; None where that has a custom creator, which leads to one database only.

    `settings` are those of `maintenance_engine`; an engine of the user's keeps its own.
    """
    if isinstance(target, URL):
        return _Sync(partial(maintenance_engine, target, database, owned=owned, settings=settings), echo=False)
    if "connect_args" not in options_of(target):
        return None
    return (_Async if _is_async(target) else _Sync)(partial(private_engine, target, database), echo=False)


def _is_async(engine: Engine) -> bool:
    return bool(engine.dialect.is_async)


class _Sync:
    """Makes links over sync engines; lazily, since an engine imports its driver."""

    def __init__(self, maker: Callable[[], Engine], echo: bool) -> None:
        self._maker = maker
        self._echo = echo

    def __call__(self, setup: OnConnect) -> Link:
        engine = self._maker()
        if self._echo:
            engine.echo = True
        return SyncLink(engine, setup)


class _Async(_Sync):
    """Makes links over async engines."""

    def __call__(self, setup: OnConnect) -> Link:
        from sqlalchemy.ext.asyncio import AsyncEngine

        engine = self._maker()
        if self._echo:
            engine.echo = True
        return AsyncLink(AsyncEngine(engine), setup)


def _recipe_of(schema: Any, engines: _Engines) -> Recipe:
    """`schema` as a recipe: as it is if it knows how, else by its ``migrate`` or ``migrate_async``."""
    if all(hasattr(schema, name) for name in ("inputs", "build", "still_fits", "why_not_kept")):
        return cast("Recipe", schema)
    return _MigratorRecipe(schema, engines)


class _MigratorRecipe:
    """A recipe from an object that has ``migrate(connection)`` or ``migrate_async(connection)``."""

    def __init__(self, migrator: Any, engines: _Engines) -> None:
        self._migrator = migrator
        self._engines = engines

    def inputs(self) -> Sequence[Input] | None:
        fingerprint = getattr(self._migrator, "fingerprint", None)
        found = fingerprint() if callable(fingerprint) else None
        if found is None:
            return None
        return [Input.of("migrator", repr(self._migrator.__class__)), *_inputs(found)]

    def why_not_kept(self) -> str:
        return "" if self.inputs() is not None else f"{type(self._migrator).__name__} has no fingerprint()"

    def still_fits(self, manifest: Manifest) -> list[str]:
        return []

    def build(self, url: URL, *, mark: str = "") -> Manifest:  # servers that a user made give no mark
        engine = self._engines.make(url.database or "")
        try:
            if engine.dialect.is_async:
                # A build never runs on a thread with an event loop: the async server hands it to another thread.
                event_loops.run(self._build_async(engine))
            else:
                self._build(engine)
        except ElefastError:
            raise
        except Exception as error:
            name = type(self._migrator).__name__
            raise MigrationError(
                f"{name} failed: {type(error).__name__}: {driver_errors.cause(error)}", code="migration-failed"
            ) from error
        return Manifest()

    def _build(self, engine: Engine) -> None:
        try:
            with engine.connect() as connection:
                self._migrator.migrate(connection)
                connection.commit()
        finally:
            engine.dispose()

    async def _build_async(self, sync_engine: Engine) -> None:
        from sqlalchemy.ext.asyncio import AsyncEngine

        engine: AsyncEngine = AsyncEngine(sync_engine)
        try:
            async with engine.connect() as connection:
                if hasattr(self._migrator, "migrate_async"):
                    await self._migrator.migrate_async(connection)
                else:
                    await connection.run_sync(self._migrator.migrate)
                await connection.commit()
        finally:
            await engine.dispose()


def _inputs(found: Any) -> Sequence[Input]:
    """What a ``fingerprint()`` gave: a string, or a sequence of inputs."""
    if isinstance(found, str | bytes):
        return [Input.of("fingerprint", found)]
    return list(found)

"""Makes engines: for elefast's work on a server, and for test databases in the way of a user's engine.

It must not know templates, settings or tests.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, cast

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.postgres import register_default_adapters, types
from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import NullPool, Pool, QueuePool

from elefast.errors import MissingDependencyError
from elefast.postgres.libpq_variables import hide_pgservice, overriding_parameters
from elefast.postgres.urls import dsn, libpq_url

__all__ = [
    "MAINTENANCE",
    "BorrowedConnectionPool",
    "MaintenanceEngine",
    "forward_do_connect",
    "maintenance_connection",
    "maintenance_engine",
    "options_of",
    "private_engine",
    "raw_connection",
    "require_driver",
]

MAINTENANCE = "postgres"
"""The database for work on databases. Advisory locks belong to one database, so all processes must connect to it."""

# Keepalives let a server notice within half a minute that a client's machine is gone, and release its locks.
_CONNECT_ARGS: dict[str, Any] = {
    # Empty, so that PGHOSTADDR does not lead to another server than the URL.
    "hostaddr": "",
    "connect_timeout": 10,
    "client_encoding": "utf8",
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
    # A prepared statement would outlive the objects that it names, and each ALTER DATABASE invalidates all of them.
    "prepare_threshold": None,
}

_PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "'psycopg[binary]'"}


def require_driver(url: URL) -> None:
    """Check that the driver of `url` is installed, before a database is made for it.

    Raises:
        MissingDependencyError: It is not. The message has the command that installs it.
    """
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        package = _PACKAGES.get(url.get_driver_name(), url.get_driver_name())
        raise MissingDependencyError(
            f"the driver of {url.drivername} is not installed ({error}). Install it: pip install {package}",
            code="driver-missing",
        ) from error


class _MaintenanceConnection(Connection):
    """A connection that no listener of the application sees."""

    def __init__(self, engine: Engine, connection: Any = None, **keywords: Any) -> None:
        super().__init__(engine, connection, **{**keywords, "_has_events": False})


class MaintenanceEngine(Engine):
    """An engine for maintenance that listeners on SQLAlchemy's classes (`Engine`, `Pool`, `Connection`) do not see.

    The application adds such a listener for its connections. A listener that runs SQL, such as ``SET timezone``, would
    begin a transaction on a connection that must be in autocommit mode, and one that counts statements would count
    elefast's.

    Args:
        pool: A pool for this engine alone. Listeners on this pool object stay.
        dialect: The dialect; it is copied, so that another engine may use it too.
        url: The URL that the pool connects to.
        echo: Log its SQL.
        hide_parameters: Leave parameters out of errors and logs.
    """

    # Class attributes. SQLAlchemy sets `_has_events` to True on the class that a listener is added to.
    _connection_cls = _MaintenanceConnection
    _has_events = False

    def __init__(
        self, pool: Pool, dialect: Dialect, url: URL, *, echo: bool | None = None, hide_parameters: bool = False
    ) -> None:
        quiet: Any = copy.copy(dialect)
        quiet._has_events = False
        _ignore_classes(pool)
        super().__init__(pool, quiet, url, echo=echo, hide_parameters=hide_parameters)

    def dispose(self, close: bool = True) -> None:
        """Close the pool's connections, without the event `engine_disposed`."""
        if close:
            self.pool.dispose()
        self.pool = self.pool.recreate()
        _ignore_classes(self.pool)


class _Unheard:
    """A class without listeners."""


def _ignore_classes(pool: Pool) -> None:
    """Have only the listeners on the object `pool` called for its events, and none of those on a class of pools."""
    own: Any = type(pool).dispatch
    listeners = own._for_class(_Unheard)
    listeners._update(pool.dispatch, only_propagate=False)
    pool.dispatch = listeners


def raw_connection(url: URL, *, owned: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """A psycopg connection without SQLAlchemy, in autocommit mode, to the database of `url`.

    Args:
        url: The database.
        owned: elefast has started the server, so libpq's environment variables are meant for another one.
    """
    given = libpq_url(url).query
    defaults: Mapping[str, Any] = {**overriding_parameters(), "client_encoding": "utf8"} if owned else {"hostaddr": ""}
    parameters: dict[str, Any] = {key: value for key, value in defaults.items() if key not in given}
    with hide_pgservice() if owned else nullcontext():
        return psycopg.connect(dsn(url), autocommit=True, context=_adapters(), **parameters)


def maintenance_engine(url: URL, database: str, *, owned: bool = False, settings: str = "") -> MaintenanceEngine:
    """A maintenance engine on psycopg: autocommit, no pool, and quick to notice a dead peer.

    Args:
        url: The server.
        database: Its database to connect to.
        owned: elefast has started the server, so libpq's environment variables are meant for another one. For a
            server that the user gave by a URL they apply.
        settings: Settings of the session from its start, as ``-c name=value``.
    """
    plain = libpq_url(url, database)
    defaults = {**(overriding_parameters() if owned else {}), **_CONNECT_ARGS}
    arguments = {key: value for key, value in defaults.items() if key not in plain.query}
    dialect: Any = _dialect()
    positional, named = dialect.create_connect_args(plain)
    parameters: dict[str, Any] = {**named, **arguments, "context": _adapters(), "autocommit": True}
    if settings:
        parameters["options"] = f"{parameters.get('options', '')} {settings}".strip()

    def connect() -> Any:
        with hide_pgservice() if owned else nullcontext():
            return psycopg.connect(*positional, **parameters)

    # Not by `create_engine`: its first connection asks the server five questions that elefast does not need.
    return MaintenanceEngine(NullPool(connect, dialect=dialect, reset_on_return=None), dialect, plain)


def maintenance_connection(driver: psycopg.Connection[Any], url: URL) -> Connection:
    """A connection for maintenance over an open psycopg connection, which must be in autocommit mode and stays open.

    Args:
        driver: The psycopg connection. The application's adapters do not act on it any more.
        url: The URL that it was opened with.
    """
    driver.prepare_threshold = None
    setattr(driver, "_adapters", AdaptersMap(_adapters()))  # noqa: B010  psycopg sets it in `connect` only
    dialect = _dialect()
    pool = BorrowedConnectionPool(lambda: cast("Any", driver), dialect=dialect, reset_on_return=None)
    return MaintenanceEngine(pool, dialect, url).connect()


class BorrowedConnectionPool(NullPool):
    """A pool of one connection that it does not own, and does not close."""

    def _do_return_conn(self, record: Any) -> None:
        pass


@cache
def _dialect() -> Dialect:
    """SQLAlchemy's dialect, also where the application has registered another one under its name."""
    make: Any = PGDialect_psycopg
    return cast("Dialect", make(dbapi=psycopg))


@cache
def _adapters() -> AdaptersMap:
    """psycopg's default adapters, also where the application has registered others for all connections."""
    adapters = AdaptersMap(types=types)
    register_default_adapters(adapters)
    return adapters


def private_engine(engine: Engine, database: str | None = None) -> MaintenanceEngine:
    """An engine with the creator, dialect and listeners of a user's engine, but a separate pool, in autocommit mode.

    A user's pool may hold one connection only, or be bound to an event loop, so elefast must not use it.

    Args:
        engine: The user's engine. Its listeners act on the new engine, but for those on classes.
        database: The database, if not that of `engine`. A custom creator does not allow another one.
    """
    dialect: Any = engine.dialect
    url = engine.url if database is None else engine.url.set(database=database)
    arguments = None if isinstance(engine, MaintenanceEngine) else _connect_arguments(engine)
    if arguments is None:
        pool = engine.pool.recreate()
    else:
        of_url = dialect.create_connect_args(engine.url)[1]
        further = {key: value for key, value in arguments.items() if key not in of_url}
        pool = NullPool(partial(_connect, dialect, url, further), dialect=dialect)
        listeners: Any = pool.dispatch
        listeners._update(engine.pool.dispatch, only_propagate=False)
    made = MaintenanceEngine(
        pool, dialect, url, echo=cast("bool | None", engine.echo), hide_parameters=engine.hide_parameters
    )
    if not isinstance(engine, MaintenanceEngine):
        event.listen(made.pool, "connect", partial(_autocommit, dialect))
    return made


def _connect(dialect: Any, url: URL, further: Mapping[str, Any], record: Any = None) -> Any:
    """Connect as an engine of `dialect` does, with the listeners on the dialect object only."""
    arguments, keywords = dialect.create_connect_args(url)
    positional, named = list(arguments), {**keywords, **further}
    for listener in dialect.dispatch.do_connect.listeners:
        if (connection := listener(dialect, record, positional, named)) is not None:
            return connection
    return dialect.connect(*positional, **named)


def _autocommit(dialect: Dialect, connection: Any, record: Any) -> None:
    # Keep the settings that the listeners of the engine have made, and end the transaction that they have begun.
    connection.commit()
    dialect.set_isolation_level(connection, "AUTOCOMMIT")


def options_of(engine: Engine) -> dict[str, Any]:
    """The ``create_engine`` keywords that make another engine like this one.

    SQLAlchemy does not record them, so this reads them from the engine: connect arguments as the driver would get
    them, the pool's class and size, JSON functions, echo. A custom ``creator`` leads to one database only and is left
    out.
    """
    dialect: Any = engine.dialect
    options: dict[str, Any] = {"hide_parameters": engine.hide_parameters}
    if engine.echo:
        options["echo"] = engine.echo
    for keyword in ("json_serializer", "json_deserializer"):
        if (value := getattr(dialect, f"_{keyword}", None)) is not None:
            options[keyword] = value
    pool: Any = engine.pool
    if type(pool) is NullPool:
        options["poolclass"] = NullPool
    elif isinstance(pool, QueuePool):
        options |= {"pool_size": pool.size(), "max_overflow": getattr(pool, "_max_overflow")}  # noqa: B009  it has no public name
    arguments = _connect_arguments(engine)
    if arguments is not None:
        of_url = dialect.create_connect_args(engine.url)[1]
        options["connect_args"] = {key: value for key, value in arguments.items() if key not in of_url}
    return options


def forward_do_connect(source: Engine, target: Engine) -> None:
    """Have the ``do_connect`` listeners of `source`, which often insert a new token, act on `target` too."""

    def forward(dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        # Listeners on a class act on `target` already.
        own: Any = getattr(source.dialect, "dispatch").do_connect  # noqa: B009  untyped in SQLAlchemy
        for listener in own.listeners:
            connection = listener(dialect, record, cargs, cparams)
            if connection is not None:
                return connection
        return None

    event.listen(target, "do_connect", forward)


def _connect_arguments(engine: Engine) -> Mapping[str, Any] | None:
    """The keyword arguments that `engine` calls its driver with; None where it has a custom creator.

    They are read from the closure by which the pool connects, because a call would run listeners and connect.
    """
    creator: Any = getattr(engine.pool, "_creator")  # noqa: B009  it has no public name
    if getattr(creator, "__module__", "") != "sqlalchemy.engine.create":
        return None
    return cast("Mapping[str, Any] | None", inspect.getclosurevars(creator).nonlocals.get("cparams"))


class EngineFactory:
    """Makes engines for the databases of one server, with the options of the user's engine.

    Args:
        url: The server.
        source: The user's engine; None where the user gave a URL.
        options: ``create_engine`` keywords that override those of `source`.
        is_async: Whether the engines are async. Then `make` returns the sync side of each.
    """

    def __init__(self, url: URL, source: Engine | None, options: Mapping[str, Any], is_async: bool) -> None:
        self._url = url
        self._source = source
        self._options = options
        self._is_async = is_async
        self._inherited: dict[str, Any] | None = None

    def make(self, name: str) -> Engine:
        """A new engine to database `name`."""
        if self._inherited is None:
            self._inherited = options_of(self._source) if self._source is not None else {}
        options = {**self._inherited, **self._options}
        url = self._url.set(database=name)
        if self._is_async:
            from sqlalchemy.ext.asyncio import create_async_engine

            # A pooled async connection belongs to one event loop, but tests use many.
            if not {"pool_size", "max_overflow", "poolclass"} & self._options.keys():
                options = {key: value for key, value in options.items() if key not in ("pool_size", "max_overflow")}
                options["poolclass"] = NullPool
            made = create_async_engine(url, **options).sync_engine
        else:
            made = create_engine(url, **options)
        if self._source is not None:
            forward_do_connect(self._source, made)
        return made

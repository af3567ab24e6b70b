"""Engines like another engine: for elefast's own work on a server, and for each database.

It knows SQLAlchemy's engines and URLs, and nothing of templates, settings or tests.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import psycopg
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.pool import NullPool, Pool, QueuePool

from elefast.errors import MissingDependencyError
from elefast.urls import dsn, libpq_url

__all__ = [
    "MAINTENANCE",
    "forward_do_connect",
    "maintenance_engine",
    "options_of",
    "private_engine",
    "raw_connection",
    "require_driver",
]

MAINTENANCE = "postgres"
"""The database for work on databases; advisory locks belong to it, so all processes must meet there."""

# Keepalives let a server notice within half a minute that a client's machine is gone, and the locks that are
# its sign of life with it.
_CONNECT_ARGS: dict[str, Any] = {
    # Empty, so that PGHOSTADDR does not lead elsewhere than the URL.
    "hostaddr": "",
    "connect_timeout": 10,
    "client_encoding": "utf8",
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
    # A prepared statement would outlive what it refers to; and each ALTER DATABASE makes psycopg give them all up.
    "prepare_threshold": None,
}

_PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "'psycopg[binary]'"}


def require_driver(url: URL) -> None:
    """See that the driver of `url` is installed, before a database is made for it.

    Raises:
        MissingDependencyError: It is not; the message has the install line.
    """
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        package = _PACKAGES.get(url.get_driver_name(), url.get_driver_name())
        raise MissingDependencyError(
            f"the driver of {url.drivername} is not installed ({error}). Install it: pip install {package}",
            code="driver-missing",
        ) from error


def raw_connection(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of psycopg's own, in autocommit mode, to the database of `url`."""
    return psycopg.connect(dsn(url), autocommit=True, hostaddr="")


def maintenance_engine(url: URL, database: str) -> Engine:
    """An engine of elefast's own on psycopg: autocommit, no pool, and quick to notice a dead peer."""
    plain = libpq_url(url, database)
    arguments = {key: value for key, value in _CONNECT_ARGS.items() if key not in plain.query}
    # Without hstore, of which nothing here is stored, it connects with three round trips less.
    return create_engine(
        plain,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=arguments,
        use_native_hstore=False,
    )


def private_engine(engine: Engine) -> Engine:
    """An engine with the same creator, dialect and listeners as a user's, but a pool of its own.

    A user's pool may hold one connection, or be bound to an event loop; elefast must neither use it up nor
    carry its connections elsewhere.
    """
    return Engine(
        engine.pool.recreate(),
        engine.dialect,
        engine.url,
        echo=cast("bool | None", engine.echo),
        execution_options={"isolation_level": "AUTOCOMMIT"},
        hide_parameters=engine.hide_parameters,
    )


def options_of(engine: Engine) -> dict[str, Any]:
    """The ``create_engine`` keywords that make another engine like this one.

    SQLAlchemy keeps no record of them, so they are read off the engine: connect arguments as the
    driver would get them, the pool's class and size, JSON functions, echo.
    A custom ``creator`` leads to one database only and is left out.
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
    """Let the ``do_connect`` listeners of `source`, which often put a fresh token in, act on `target` too."""

    def forward(dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        listeners: Any = getattr(source.dialect, "dispatch").do_connect  # noqa: B009  untyped in SQLAlchemy
        for listener in listeners:
            connection = listener(dialect, record, cargs, cparams)
            if connection is not None:
                return connection
        return None

    event.listen(target, "do_connect", forward)


class _CapturedError(Exception):
    """Ends a connection attempt once its arguments are known."""


def _connect_arguments(engine: Engine) -> Mapping[str, Any] | None:
    """The keyword arguments that `engine` calls its driver with, or None where it has a custom creator."""
    captured: dict[str, Any] = {}
    thread = threading.get_ident()

    def capture(dialect: Any, record: Any, cargs: Any, cparams: dict[str, Any]) -> None:
        if threading.get_ident() == thread:
            captured.update(cparams)
            raise _CapturedError

    pool: Pool = engine.pool.recreate()
    event.listen(engine, "do_connect", capture, insert=True)
    try:
        pool.connect().close()
    except _CapturedError:
        return captured
    except Exception:  # of a custom creator, which is called in spite of the listener: let it fail where it is used
        return None
    finally:
        event.remove(engine, "do_connect", capture)
        pool.dispose()
    return None

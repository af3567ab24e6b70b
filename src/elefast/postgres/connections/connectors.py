"""Connectors: how to reach a server, or one database on it, by a URL or in the way of a user's engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import URL, Connection, Engine

from elefast.postgres.connections.control_connection import (
    AsyncControlConnection,
    ControlConnection,
    SyncControlConnection,
)
from elefast.postgres.connections.engines import MAINTENANCE, maintenance_engine, options_of, private_engine
from elefast.postgres.connections.maintenance_session import Connector

__all__ = ["connector_to", "connectors_to"]

OnConnect = Callable[[Connection], None]


def connectors_to(target: Engine | URL, *, echo: bool = False, owned: bool = False) -> Sequence[Connector]:
    """The connectors to the maintenance databases of `target`: ``postgres`` first, then the one that `target` names.

    For a URL they use psycopg; for an engine they use its driver, creator and listeners.

    Args:
        target: The server.
        echo: Log the SQL.
        owned: elefast has started the server; see `maintenance_engine`.
    """
    if isinstance(target, URL):
        names = dict.fromkeys([MAINTENANCE, target.database or MAINTENANCE])
        return [_SyncConnector(partial(maintenance_engine, target, name, owned=owned), echo) for name in names]
    makers: list[Callable[[], Engine]] = [partial(private_engine, target)]
    if target.url.database != MAINTENANCE and "connect_args" in options_of(target):
        makers.insert(0, partial(private_engine, target, MAINTENANCE))
    if _is_async(target):
        return [_AsyncConnector(maker, echo) for maker in makers]
    return [_SyncConnector(maker, echo) for maker in makers]


def connector_to(target: Engine | URL, database: str, *, owned: bool = False, settings: str = "") -> Connector | None:
    """The connector to `database` on `target`; None where `target` has a custom creator, which leads to one database.

    Args:
        target: The server.
        database: The name of the database.
        owned: elefast has started the server; see `maintenance_engine`.
        settings: Settings of the session, as for `maintenance_engine`. An engine of the user keeps its settings.
    """
    if isinstance(target, URL):
        return _SyncConnector(partial(maintenance_engine, target, database, owned=owned, settings=settings), echo=False)
    if "connect_args" not in options_of(target):
        return None
    return (_AsyncConnector if _is_async(target) else _SyncConnector)(
        partial(private_engine, target, database), echo=False
    )


def _is_async(engine: Engine) -> bool:
    return bool(engine.dialect.is_async)


class _SyncConnector:
    """Makes control connections over sync engines. It makes the engine late, because an engine imports its driver."""

    def __init__(self, maker: Callable[[], Engine], echo: bool) -> None:
        self._maker = maker
        self._echo = echo

    def __call__(self, setup: OnConnect) -> ControlConnection:
        engine = self._maker()
        if self._echo:
            engine.echo = True
        return SyncControlConnection(engine, setup)


class _AsyncConnector(_SyncConnector):
    """Makes control connections over async engines."""

    def __call__(self, setup: OnConnect) -> ControlConnection:
        from sqlalchemy.ext.asyncio import AsyncEngine

        engine = self._maker()
        if self._echo:
            engine.echo = True
        return AsyncControlConnection(AsyncEngine(engine), setup)

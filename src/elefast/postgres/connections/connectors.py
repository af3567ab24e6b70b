"""How to reach a server, or one database on it: by a URL, or as an engine of the user's does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import URL, Connection, Engine

from elefast.postgres.connections.control_connection import AsyncLink, Link, SyncLink
from elefast.postgres.connections.engines import MAINTENANCE, maintenance_engine, options_of, private_engine
from elefast.postgres.connections.maintenance_session import LinkFactory

__all__ = ["link_to", "links_to"]

OnConnect = Callable[[Connection], None]


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

"""A stack behind its servers: they ask it for databases and engines, and it knows nothing of what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import URL, Engine

from elefast.postgres.drop_blockers import Left

if TYPE_CHECKING:
    from elefast.stack import Stack

__all__ = ["AsyncBacking", "SyncBacking"]


class SyncBacking:
    """A stack as the backing of its sync server."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    @property
    def url(self) -> URL:
        return self._stack.url

    def ensure_ready(self, timeout: float = 30, interval: float = 0.5) -> None:
        self._stack.ensure_ready(timeout, interval)

    def create(self, prefix: str, encoding: str) -> str:
        return self._stack.create(prefix, encoding)

    def drop(self, name: str) -> list[Left]:
        self._stack.check_not_shared(name)
        self._stack.give_back(name)
        return []

    def engine(self, name: str) -> Engine:
        return self._stack.engine(name)

    def withdraw(self, name: str) -> None:
        self._stack.withdraw(name)


class AsyncBacking(SyncBacking):
    """A stack as the backing of its async server."""

    @property
    def url(self) -> URL:
        return self._stack.url_for(self._stack.async_driver)

    def create(self, prefix: str, encoding: str) -> str:
        name = self._stack.create(prefix, encoding)
        self._stack.withdraw(name)  # a sync engine's connection
        return name

    def engine(self, name: str) -> Engine:
        return self._stack.async_engine(name)

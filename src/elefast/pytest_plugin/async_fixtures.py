"""Async sessions and connections from sync fixtures: opened and closed in the test's own event loop.

A sync fixture has no loop, and must not pick one: pytest-asyncio and anyio run tests in loops of their own.
So what it hands out opens itself when it is first used, and is closed where the test function ends.
It knows SQLAlchemy and test functions, and no plugin that runs them.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import unittest
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from elefast.errors import ElefastError
from elefast.isolation.engine import SharedConnectionEngine, closing_fixture, connect

__all__ = ["closed_by_test", "closer", "unopened"]

_CLOSERS = pytest.StashKey[list[Callable[[], Awaitable[None]]]]()


def unopened(engine: AsyncEngine) -> AsyncConnection:
    """A connection that opens itself when it is first used, in the loop that uses it.

    To SQLAlchemy it is a connection that was invalidated, which it opens again on demand.
    """
    if isinstance(engine.sync_engine, SharedConnectionEngine):
        return AsyncConnection(engine, connect(engine.sync_engine, lazy=True))
    nothing: Any = SimpleNamespace(is_valid=False)
    connection = Connection(engine.sync_engine, nothing)
    connection.invalidate()
    _bind_to_first_loop(connection)
    return AsyncConnection(engine, connection)


def _bind_to_first_loop(connection: Connection) -> None:
    """Say what is wrong where a second loop uses the connection; the drivers' own messages do not."""
    first: list[asyncio.AbstractEventLoop] = []

    def check(*_: object) -> None:
        loop = asyncio.get_running_loop()
        if not first:
            first.append(loop)
        elif first[0] is not loop:
            raise ElefastError(
                "async_db_connection was opened in one event loop and is now used in another one: a fixture "
                "and the test have different loop scopes.\n"
                "Open a connection where you need it: async with async_db.engine.connect() as connection",
                code="other-event-loop",
            )

    event.listen(connection, "before_execute", check)
    event.listen(connection, "before_cursor_execute", lambda *args: check())
    event.listen(connection, "commit", check)


def closer(engine: AsyncEngine, close: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """`close` of something on `engine`, for the end of a test."""

    async def close_leniently() -> None:
        with closing_fixture(engine.sync_engine):
            await close()

    return close_leniently


@contextmanager
def closed_by_test(item: Any, close: Callable[[], Awaitable[None]]) -> Generator[None]:
    """While this lasts, the coroutine function of test `item` ends with `close`; of several, the last one first.

    The fixture's own end would be too late: by then the test's loop may be gone.
    `unittest.IsolatedAsyncioTestCase` runs cleanups in its loop, after the test and its `asyncTearDown`.
    Other tests that are no coroutine functions are left alone; they run loops as they like.
    """
    instance = getattr(item, "instance", None)
    if isinstance(instance, unittest.IsolatedAsyncioTestCase):
        instance.addAsyncCleanup(close)
        yield
        return
    function = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(function):
        yield
        return
    closers = item.stash.setdefault(_CLOSERS, [])
    outermost = not closers
    closers.append(close)
    if outermost:
        item.obj = _ending_with(closers, function)
    try:
        yield
    finally:
        closers.remove(close)
        if outermost:
            item.obj = function


def _ending_with(closers: list[Callable[[], Awaitable[None]]], function: Any) -> Any:
    """A test function that does the same, and then closes."""

    @functools.wraps(function)
    async def test(*args: Any, **kwargs: Any) -> Any:
        try:
            result = await function(*args, **kwargs)
        except BaseException:
            for close in reversed(closers):
                with suppress(Exception):  # the test's own error is the one to see
                    await close()
            raise
        for close in reversed(closers):
            await close()
        return result

    return test

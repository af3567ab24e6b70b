"""Async sessions and connections from sync fixtures, opened and closed in the event loop of the test.

A sync fixture has no loop, and must not choose one, because pytest-asyncio and anyio run tests in their own loops.
So its connection opens at the first use, and is closed where the test function ends.
This module knows SQLAlchemy and test functions. It must not know the plugins that run them.
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

__all__ = ["closing_fixture_callback", "closing_in_test", "lazy_connection"]

_CLOSERS = pytest.StashKey[list[Callable[[], Awaitable[None]]]]()


def lazy_connection(engine: AsyncEngine) -> AsyncConnection:
    """A connection that opens at its first use, in the loop of that use.

    SQLAlchemy takes it for an invalidated connection, which it opens again on demand.
    """
    if isinstance(engine.sync_engine, SharedConnectionEngine):
        return AsyncConnection(engine, connect(engine.sync_engine, lazy=True))
    nothing: Any = SimpleNamespace(is_valid=False)
    connection = Connection(engine.sync_engine, nothing)
    connection.invalidate()
    _refuse_second_loop(connection)
    return AsyncConnection(engine, connection)


def _refuse_second_loop(connection: Connection) -> None:
    """Raise an error where a second loop uses the connection. The errors of the drivers do not name the cause."""
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


def closing_fixture_callback(
    engine: AsyncEngine, close: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """A function that calls `close`, which closes something on `engine`, at the end of a test."""

    async def close_for_fixture() -> None:
        with closing_fixture(engine.sync_engine):
            await close()

    return close_for_fixture


@contextmanager
def closing_in_test(item: Any, close: Callable[[], Awaitable[None]]) -> Generator[None]:
    """Let the coroutine function of test `item` end with a call of `close`; of several, the last one comes first.

    The teardown of the fixture would be too late, because the test's loop may be closed by then.
    `unittest.IsolatedAsyncioTestCase` runs cleanups in its loop, after the test and its `asyncTearDown`.
    Other tests that are no coroutine functions are not changed, because they run their loops themselves.
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
        item.obj = _closing_after(closers, function)
    try:
        yield
    finally:
        closers.remove(close)
        if outermost:
            item.obj = function


def _closing_after(closers: list[Callable[[], Awaitable[None]]], function: Any) -> Any:
    """A test function that calls `function`, and then the closers."""

    @functools.wraps(function)
    async def test(*args: Any, **kwargs: Any) -> Any:
        try:
            result = await function(*args, **kwargs)
        except BaseException:
            for close in reversed(closers):
                with suppress(Exception):  # the error of the test is raised instead
                    await close()
            raise
        for close in reversed(closers):
            await close()
        return result

    return test

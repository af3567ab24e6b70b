"""Event loops of elefast's own: ones that every async driver can be used on.

It knows what psycopg says of Windows, whose usual loop it cannot be used on; asyncpg can be used on either.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["factory", "new", "run"]

T = TypeVar("T")


def factory(platform: str = sys.platform) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes such a loop; None where any will do, the one of a project's policy included."""
    return asyncio.SelectorEventLoop if platform == "win32" else None


def new() -> asyncio.AbstractEventLoop:
    """A loop, for the caller to run and to close."""
    return (factory() or asyncio.new_event_loop)()


def run(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=factory()) as runner:
        return runner.run(work)

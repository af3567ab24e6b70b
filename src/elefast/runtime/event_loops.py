"""Event loops on which every async driver works.

On Windows, psycopg does not work with the default loop, the proactor. asyncpg works with either.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["loop_factory", "new_event_loop", "run"]

T = TypeVar("T")


def loop_factory(platform: str = sys.platform) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The class of such loops for `platform`; None if every loop will do, including that of the project's policy."""
    return asyncio.SelectorEventLoop if platform == "win32" else None


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop, which the caller closes."""
    return (loop_factory() or asyncio.new_event_loop)()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end and return its result, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)

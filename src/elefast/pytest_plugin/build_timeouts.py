"""The limit of pytest-timeout while a test waits for the template, which is built for all tests.

Without it a build that takes longer than the limit would be ended in every test, and begin again in the next.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["BuildTimeouts"]

_SETTINGS = pytest.StashKey[Any]()

_TIMES = 10
_AT_LEAST = 600.0
"""How much longer than a test a build may take, and how many seconds it may take in any case. A limit stays, because a
build that waits for ever would otherwise never be reported."""


class BuildTimeouts:
    """The plugin object that knows the limit of each test; registered where pytest-timeout is."""

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> None:
        """Remember the limit; pytest-timeout sets the timer."""
        item.stash[_SETTINGS] = settings

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> None:
        """Forget the limit; pytest-timeout cancels the timer."""
        if _SETTINGS in item.stash:
            del item.stash[_SETTINGS]

    @contextmanager
    def during_build(self, item: pytest.Item) -> Generator[None]:
        """Give the test `item` the limit of a build, and its own limit from the end of the build on."""
        settings = item.stash.get(_SETTINGS, None)
        if settings is None:
            yield
            return
        hook: Any = item.config.hook
        hook.pytest_timeout_cancel_timer(item=item)
        longer = max(_TIMES * settings.timeout, _AT_LEAST)
        hook.pytest_timeout_set_timer(item=item, settings=settings._replace(timeout=longer))
        yield
        # Not after an error: a timer that has fired must not be set again for what follows.
        hook.pytest_timeout_cancel_timer(item=item)
        hook.pytest_timeout_set_timer(item=item, settings=settings)

"""The pytest plugin: hooks only.

It is loaded by every pytest run of an environment that has elefast, so it imports the standard library and
pytest; the rest is imported when a project turns out to be configured, and SQLAlchemy when a test wants
a database.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from elefast.pytest_plugin.item_options import KEEP

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_load_initial_conftests",
    "pytest_terminal_summary",
]


_MARKER = (
    'elefast(isolation="database"|"transaction", keep="failed"|"always"|"never"): how this test gets its database, '
    "and whether the database stays for a look afterwards"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the four options; they exist in unconfigured projects too, so that `addopts` may be shared."""
    group = parser.getgroup("elefast", "elefast: PostgreSQL databases for tests")
    group.addoption("--elefast-profile", metavar="NAME", help="the profile of the configuration to use")
    group.addoption(
        "--elefast-keep",
        action="store_const",
        const="failed",
        help="leave the databases of failed tests on the server; --elefast-keep=always those of all tests, "
        "--elefast-keep=never none",
    )
    for value in KEEP:
        # An option of its own for each value: one option with an optional value would swallow the path after it.
        group.addoption(
            f"--elefast-keep={value}", action="store_const", const=value, dest="elefast_keep", help=argparse.SUPPRESS
        )
    group.addoption("--elefast-rebuild", action="store_true", help="build the template anew even if nothing changed")
    group.addoption("--elefast-report", action="store_true", help="show at the end what the databases cost in time")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Before any conftest is imported: see whether the project is configured, and protect its databases.

    It is a wrapper because those come before all others, also before plugins that set variables as early as they can.
    """
    _begin(early_config)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and `db` where no other plugin has it."""
    config.addinivalue_line("markers", _MARKER)
    if _begin(config) and not config.pluginmanager.hasplugin("django"):
        from elefast.pytest_plugin import db_fixture

        config.pluginmanager.register(db_fixture, "elefast-db")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """In a project that is not configured: say so where a test failed because it has none of elefast's fixtures."""
    errors = terminalreporter.stats.get("error")
    if errors and not config.pluginmanager.hasplugin("elefast-harness"):
        from elefast.pytest_plugin import unconfigured

        unconfigured.explain(terminalreporter, errors)


def _without_capture(config: pytest.Config) -> AbstractContextManager[object]:
    # Asked for when it is needed: pytest registers its capture manager after `_begin` was called.
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    lifted: AbstractContextManager[object] = capture.global_and_fixture_disabled() if capture else nullcontext()
    return lifted


def _begin(config: pytest.Config) -> bool:
    """Set the plugin up for a configured project; True if it is one. Does its work once for a config.

    It is called twice because the first hook does not reach a plugin that a conftest names.
    """
    if config.pluginmanager.hasplugin("elefast-harness"):
        return True
    # What is imported for everyone is small and needs the standard library alone.
    from elefast.config.discovery import find
    from elefast.runtime import terminal

    # Also without a configuration: `elefast.extras.docker.postgres()` may have an image to pull.
    config.add_cleanup(terminal.register_capture(lambda: _without_capture(config)))

    found = find(config.rootpath)
    if found is None:
        return False
    from elefast.pytest_plugin import fixtures
    from elefast.pytest_plugin.harness import Harness

    harness = Harness(config, found)
    config.pluginmanager.register(harness, "elefast-harness")
    config.pluginmanager.register(fixtures, "elefast-fixtures")
    if config.pluginmanager.hasplugin("timeout"):
        config.pluginmanager.register(harness.build_timeouts, "elefast-build-timeouts")
    config.add_cleanup(harness.close)
    harness.protect()
    harness.watch_imports()
    return True

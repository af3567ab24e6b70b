"""The pytest plugin: the hooks, options and fixtures that give each test its database.

Every pytest run in an environment with elefast loads this module, so it imports only the standard library, pytest and
light modules of elefast.
The other modules of this room are imported in a configured project, and SQLAlchemy for the first test with a database.
This room must not know how databases are made: it gets them from the stack of the run.

    def test_add(db_session):  # fixtures.py checks a database out; harness.py has the stack of the run
        db_session.add(Item(name="a"))
        db_session.commit()
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
    'elefast(isolation="database"|"transaction", keep="failed"|"always"|"never", scenario="NAME", '
    'scope="function"|"class"|"module"|"package"|"session"): how this test gets its database, whether the database is '
    "kept afterwards, the state that it starts from, and which tests share it"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the four options. They exist in unconfigured projects as well, so that projects can share `addopts`."""
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
        # Each value is a separate option, because an option with an optional value would take the path after it.
        group.addoption(
            f"--elefast-keep={value}", action="store_const", const=value, dest="elefast_keep", help=argparse.SUPPRESS
        )
    group.addoption("--elefast-rebuild", action="store_true", help="build the template anew even if nothing changed")
    group.addoption("--elefast-report", action="store_true", help="show at the end what the databases cost in time")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Set the plugin up before a conftest is imported, so that the project's databases are protected from then on.

    Wrappers run before other implementations, so this also comes before plugins that set variables early.
    """
    _set_up(early_config)
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the fixture `db` unless pytest-django has one."""
    config.addinivalue_line("markers", _MARKER)
    if _set_up(config) and not config.pluginmanager.hasplugin("django"):
        from elefast.pytest_plugin import db_fixture

        config.pluginmanager.register(db_fixture, "elefast-db")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Explain in an unconfigured project why a test did not find a fixture of elefast."""
    errors = terminalreporter.stats.get("error")
    if errors and not config.pluginmanager.hasplugin("elefast-harness"):
        from elefast.pytest_plugin import unconfigured

        unconfigured.explain(terminalreporter, errors)


def _without_capture(config: pytest.Config) -> AbstractContextManager[object]:
    # pytest registers its capture manager after `_set_up` was called, so this looks it up at each use.
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    lifted: AbstractContextManager[object] = capture.global_and_fixture_disabled() if capture else nullcontext()
    return lifted


def _set_up(config: pytest.Config) -> bool:
    """Set the plugin up in a configured project, once; return whether the project is configured.

    Two hooks call it, because the first one is not called for a plugin that a conftest names.
    """
    if config.pluginmanager.hasplugin("elefast-harness"):
        return True
    # These imports happen in every project. The modules are small and need only the standard library.
    from elefast.config.discovery import find
    from elefast.runtime import terminal

    # This is for unconfigured projects as well: `elefast.extras.docker.postgres()` shows the pull of an image.
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

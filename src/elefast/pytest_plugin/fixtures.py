"""The fixtures of a configured project. A conftest can override each of them by name.

All of them are sync functions, so that they work with every plugin for async tests and without one.
The fixture `db` is in `db_fixture.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import pytest

from elefast.errors import LeakWarning
from elefast.pytest_plugin import terminal_report
from elefast.pytest_plugin.harness import Harness, harness_of, has_failed, note_database

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

    from elefast.asyncio import AsyncDatabase, AsyncDatabaseServer
    from elefast.databases.report import Leak
    from elefast.isolation.database import DatabaseCheckout
    from elefast.isolation.transaction import TransactionCheckout
    from elefast.stack import Stack
    from elefast.sync import Database, DatabaseServer

    Checkout = DatabaseCheckout | TransactionCheckout

__all__ = [
    "async_db",
    "async_db_connection",
    "async_db_server",
    "async_db_session",
    "db_connection",
    "db_server",
    "db_session",
    "elefast_db",
    "elefast_stack",
]

_NOT_KEPT = (
    'nothing is kept of this test: with isolation = "transaction" all that it wrote is rolled back.\n'
    'To inspect its database afterwards, add @pytest.mark.elefast(isolation="database")'
)


@pytest.fixture(scope="session")
def elefast_stack(request: pytest.FixtureRequest) -> Stack:
    """The stack of the run, as `elefast.from_config()` gives it; nothing starts until it is used."""
    harness = harness_of(request.config)
    with harness.failing_by_message():
        return harness.stack


@pytest.fixture(scope="session")
def db_server(elefast_stack: Stack) -> DatabaseServer:
    """The server, to make further databases on: `with db_server.create_database() as database`."""
    return elefast_stack.server


@pytest.fixture(scope="session")
def async_db_server(request: pytest.FixtureRequest, elefast_stack: Stack) -> AsyncDatabaseServer:
    """The server for asyncio: `async with await async_db_server.create_database() as database`."""
    with harness_of(request.config).failing_by_message():
        return elefast_stack.async_server


@pytest.fixture
def _elefast_database(request: pytest.FixtureRequest) -> Iterator[Checkout]:
    """The checkout of a test, with the application redirected to it. The other fixtures are views of it."""
    harness = harness_of(request.config)
    item: pytest.Item = request.node
    leaks: list[Leak] = []
    with harness.failing_by_message():
        options = harness.item_options(item)
    if options.scope != "function":
        shared = harness.scopes.checkout_of(item, options)  # the harness has checked it out, and releases it
        note_database(item, shared)
        yield shared
        _fail_for_refused(harness, item)
        return
    with ExitStack() as cleanup:
        may_build = harness.may_build_template(options.scenario)
        limits = harness.build_timeouts.during_build(item) if may_build else nullcontext()
        with harness.failing_by_message(), limits:
            in_transaction = options.isolation == "transaction"
            harness.application.check()
            stack = harness.stack
            checkout: Checkout
            if in_transaction:
                checkout = stack.checkout_transaction(item.nodeid, scenario=options.scenario)
            else:
                upcoming = harness.upcoming_scenarios()
                checkout = stack.checkout(item.nodeid, scenario=options.scenario, upcoming=upcoming)
        with harness.failing_by_message():
            cleanup.callback(
                lambda: leaks.extend(
                    checkout.release(failed=has_failed(item), keep=options.keep, wait=options.leaks == "error")
                )
            )
            note_database(item, checkout)
            cleanup.callback(note_database, item, None)
            if in_transaction:
                if options.keep != "never":
                    item.add_report_section("setup", "elefast", _NOT_KEPT)
            else:
                harness.stale_connections.begin_test(checkout.name, item.nodeid)
                cleanup.callback(harness.stale_connections.end_test, checkout.name)
            cleanup.enter_context(harness.application.leading_to(checkout))
        cleanup.callback(checkout.end_test)
        yield checkout
    _fail_for_refused(harness, item)
    if options.leaks == "error" and leaks:
        pytest.fail(terminal_report.leaks_message(leaks), pytrace=False)
    for leak in leaks if options.leaks == "warn" else ():
        warnings.warn(LeakWarning(terminal_report.leak_line(leak)), stacklevel=1)


def _fail_for_refused(harness: Harness, item: pytest.Item) -> None:
    """Fail where the application was refused a stale connection, and has perhaps caught the error."""
    refused = harness.stale_connections.take_refused()
    if refused and not has_failed(item):
        pytest.fail(refused[0], pytrace=False)


@pytest.fixture(autouse=True)
def _elefast_first(request: pytest.FixtureRequest) -> None:
    """Check the database out before other fixtures: they may read the exported variables, or use a patched engine.

    With `autouse = true` every test gets a database.
    """
    if "_elefast_database" in request.fixturenames or harness_of(request.config).gives_every_test_a_database:
        request.getfixturevalue("_elefast_database")


@pytest.fixture
def elefast_db(request: pytest.FixtureRequest, _elefast_database: Checkout) -> Database:
    """The test's own database, migrated; gone afterwards."""
    with harness_of(request.config).failing_by_message():
        return _elefast_database.sync


@pytest.fixture
def db_connection(elefast_db: Database) -> Iterator[Connection]:
    """A connection to the test's database; what is not committed at the end is rolled back."""
    from elefast.isolation.engine import closing_fixture, connect

    connection = connect(elefast_db.engine)
    yield connection
    with closing_fixture(elefast_db.engine):
        connection.close()


@pytest.fixture
def db_session(elefast_db: Database) -> Iterator[Session]:
    """A session on the test's database, closed at the end."""
    from elefast.isolation.engine import closing_fixture

    session = elefast_db.session()
    yield session
    with closing_fixture(elefast_db.engine):
        session.close()


@pytest.fixture
def async_db(request: pytest.FixtureRequest, _elefast_database: Checkout) -> Iterator[AsyncDatabase]:
    """The test's own database for asyncio; the same database as `db`."""
    with harness_of(request.config).failing_by_message():
        database = _elefast_database.async_  # its error names the package to install
    from elefast.pytest_plugin.async_fixtures import closing_in_test

    # A pool, if the project configures one, keeps connections that can only be closed in the loop that made them.
    with closing_in_test(request.node, database.engine.dispose):
        yield database


@pytest.fixture
def async_db_connection(request: pytest.FixtureRequest, async_db: AsyncDatabase) -> Iterator[AsyncConnection]:
    """A connection to the test's database; opens at its first use, closes where the test function ends."""
    from elefast.pytest_plugin.async_fixtures import closing_fixture_callback, closing_in_test, lazy_connection

    connection = lazy_connection(async_db.engine)
    with closing_in_test(request.node, closing_fixture_callback(async_db.engine, connection.close)):
        yield connection


@pytest.fixture
def async_db_session(request: pytest.FixtureRequest, async_db: AsyncDatabase) -> Iterator[AsyncSession]:
    """A session on the test's database; connects at its first use, closes where the test function ends."""
    from elefast.pytest_plugin.async_fixtures import closing_fixture_callback, closing_in_test

    session = async_db.session()
    with closing_in_test(request.node, closing_fixture_callback(async_db.engine, session.close)):
        yield session

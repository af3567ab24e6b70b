"""The fixtures of a configured project; a conftest overrides any of them by name.

All of them are sync, so that no plugin for async tests has to agree with them.
The fixture `db` has a module of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import pytest

from elefast.errors import LeakWarning, told
from elefast.pytest_plugin import harness, terminal_report

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

    Lent = DatabaseCheckout | TransactionCheckout

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
    'For a look at its database add @pytest.mark.elefast(isolation="database")'
)


@pytest.fixture(scope="session")
def elefast_stack(request: pytest.FixtureRequest) -> Stack:
    """The stack of the run, as `elefast.from_config()` gives it; nothing starts until it is used."""
    run = harness.of(request.config)
    with run.explaining():
        return run.stack


@pytest.fixture(scope="session")
def db_server(elefast_stack: Stack) -> DatabaseServer:
    """The server, to make further databases on: `with db_server.create_database() as database`."""
    return elefast_stack.server


@pytest.fixture(scope="session")
def async_db_server(request: pytest.FixtureRequest, elefast_stack: Stack) -> AsyncDatabaseServer:
    """The server for asyncio: `async with await async_db_server.create_database() as database`."""
    with harness.of(request.config).explaining():
        return elefast_stack.async_server


@pytest.fixture
def _elefast_database(request: pytest.FixtureRequest) -> Iterator[Lent]:
    """The one database of a test, with the application led to it; the other fixtures are views of it."""
    run = harness.of(request.config)
    item: pytest.Item = request.node
    leaks: list[Leak] = []
    with ExitStack() as undo:
        with run.explaining(), run.build_timeouts.during_build(item) if run.may_build_template else nullcontext():
            options = run.item_options(item)
            shared = options.isolation == "transaction"
            patch = run.patch if run.settings.patch else None
            if patch is not None:
                patch.check()
            database = run.stack.checkout_transaction(item.nodeid) if shared else run.stack.checkout(item.nodeid)
        with run.explaining():
            undo.callback(
                lambda: leaks.extend(
                    database.release(failed=harness.has_failed(item), keep=options.keep, wait=options.leaks == "error")
                )
            )
            if shared and options.keep != "never":
                item.add_report_section("setup", "elefast", _NOT_KEPT)
            if not shared:
                run.stale.lend(database.name, item.nodeid)
                undo.callback(run.stale.end, database.name)
                undo.enter_context(run.environment.during_test(database.url_for))
            if patch is not None:
                undo.enter_context(patch.during_test(database))
                if patch.renews_caches:
                    # Before they are cleared, and with them what has the connections.
                    undo.callback(run.stale.close_idle, database.name)
        undo.callback(database.end_test)
        yield database
    refused = run.stale.take_refused()
    if refused and not harness.has_failed(item):
        pytest.fail(refused[0], pytrace=False)
    if options.leaks == "error" and leaks:
        pytest.fail(told(LeakWarning("\n".join(terminal_report.leak_line(leak) for leak in leaks))), pytrace=False)
    for leak in leaks if options.leaks == "warn" else ():
        warnings.warn(LeakWarning(terminal_report.leak_line(leak)), stacklevel=1)


@pytest.fixture(autouse=True)
def _elefast_first(request: pytest.FixtureRequest) -> None:
    """Make the database before other fixtures: they may read the variables, or use what is patched.

    With `autouse = true` it is made for every test.
    """
    run = harness.of(request.config)
    if "_elefast_database" in request.fixturenames or run.gives_every_test_a_database:
        request.getfixturevalue("_elefast_database")


@pytest.fixture
def elefast_db(request: pytest.FixtureRequest, _elefast_database: Lent) -> Database:
    """The test's own database, migrated; gone afterwards."""
    with harness.of(request.config).explaining():
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
def async_db(request: pytest.FixtureRequest, _elefast_database: Lent) -> Iterator[AsyncDatabase]:
    """The test's own database for asyncio; the same database as `db`."""
    with harness.of(request.config).explaining():
        database = _elefast_database.async_  # says what to install where asyncio cannot be used
    from elefast.pytest_plugin.async_fixtures import closed_by_test

    # Connections that a pool keeps, if the project wants one, can only be closed in the loop that made them.
    with closed_by_test(request.node, database.engine.dispose):
        yield database


@pytest.fixture
def async_db_connection(request: pytest.FixtureRequest, async_db: AsyncDatabase) -> Iterator[AsyncConnection]:
    """A connection to the test's database; opens at its first use, closes where the test function ends."""
    from elefast.pytest_plugin.async_fixtures import closed_by_test, closer, unopened

    connection = unopened(async_db.engine)
    with closed_by_test(request.node, closer(async_db.engine, connection.close)):
        yield connection


@pytest.fixture
def async_db_session(request: pytest.FixtureRequest, async_db: AsyncDatabase) -> Iterator[AsyncSession]:
    """A session on the test's database; connects at its first use, closes where the test function ends."""
    from elefast.pytest_plugin.async_fixtures import closed_by_test, closer

    session = async_db.session()
    with closed_by_test(request.node, closer(async_db.engine, session.close)):
        yield session

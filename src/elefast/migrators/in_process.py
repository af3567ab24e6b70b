"""Runs steps of a plan for a user's connection: on new connections where possible, else in this process on that one.

`url_to_reopen` finds out whether another process can open the database of the connection. Then the steps run as in
any build. Where it cannot, `run_on_connection` runs a step here. It restores what migrations are known to change in a
process (logging, environment, working directory, import path), and refuses all other connections that SQLAlchemy
opens meanwhile: an env.py that ignores the given connection would migrate the database that the application's own
configuration names.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, event

from elefast.errors import ElefastError, MigrationError
from elefast.migrators.alembic.step import Alembic
from elefast.migrators.callable import Function
from elefast.migrators.error_report import code_of, explain
from elefast.migrators.metadata import Metadata, load_metadata
from elefast.migrators.sandbox.connection_guard import RefusedConnectionError
from elefast.migrators.steps import Step
from elefast.postgres.url_variables import ExportedVariable
from elefast.postgres.urls import dsn, libpq_url
from elefast.templates.metadata import create_all

__all__ = ["CannotReopenError", "run_on_connection", "url_to_reopen"]

# A server has one start time, and a database of it one OID: together they identify a database.
_IDENTITY = (
    "SELECT oid::text, datname::text, pg_postmaster_start_time()::text FROM pg_database "
    "WHERE datname = current_database()"
)
# Uncommitted changes, which another connection would not see, or locks, which it would wait for.
_PENDING = (
    "SELECT pg_current_xact_id_if_assigned() IS NOT NULL OR EXISTS (SELECT FROM pg_locks "
    "WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384)"
)
_CONNECT_TIMEOUT = 10

_UNREACHABLE_HOST = "use-the-given-connection.elefast.invalid"
_UNREACHABLE_URL = f"postgresql+psycopg://nobody@{_UNREACHABLE_HOST}/nothing"

# Whether this thread or task runs a step. Engines of other threads and tasks may connect.
_runs_step: ContextVar[bool] = ContextVar("elefast_runs_step", default=False)


class CannotReopenError(Exception):
    """The database of a connection cannot be opened again; the text is the reason."""


def url_to_reopen(connection: Connection) -> URL:
    """A URL by which another process can open the database of `connection`; it was tried.

    Raises:
        CannotReopenError: The connection has uncommitted work, or its engine's URL does not lead to its database.
    """
    began = connection.in_transaction()
    try:
        identity = tuple(connection.exec_driver_sql(_IDENTITY).one())
        pending = connection.exec_driver_sql(_PENDING).scalar_one()
    finally:
        if not began and connection.in_transaction():
            connection.rollback()
    if began and pending:
        raise CannotReopenError("it has a transaction with uncommitted work")
    url = libpq_url(connection.engine.url)
    try:
        with psycopg.connect(dsn(url), connect_timeout=_CONNECT_TIMEOUT, autocommit=True, hostaddr="") as another:
            row: Any = another.execute(_IDENTITY).fetchone()
    except psycopg.Error as error:
        raise CannotReopenError(f"its URL cannot be opened from outside ({str(error).strip()})") from error
    if tuple(row) != identity:
        raise CannotReopenError("its URL leads to another database")
    return url


def run_on_connection(
    step: Step, connection: Connection, root: Path, variables: Mapping[str, str], reason: str
) -> None:
    """Run one step in this process on `connection`, and on no other connection.

    Args:
        step: The step.
        connection: The database. The step's work is committed, unless the connection was in a transaction before.
        root: The project directory.
        variables: Environment variables that would hold the URL or parts of it, each with its driver or template.
            They get values that lead to no server.
        reason: Why it has to run here, for the errors.

    Raises:
        ConfigurationError: A file or module that the step names does not exist.
        MigrationError: The step failed, or it needs connections of its own.
    """
    began = connection.in_transaction()
    with _process_state_restored(root, variables), _other_connections_refused():
        try:
            _run(step, connection, root, reason)
            if not began and connection.in_transaction():
                connection.commit()
        except ElefastError:
            raise
        except Exception as error:
            text = explain(step.label, error, root)
            raise MigrationError(
                f"{text}\n  It ran in this process on the given connection, because {reason}.", code=code_of(error)
            ) from error


def _run(step: Step, connection: Connection, root: Path, reason: str) -> None:
    if isinstance(step, Alembic):
        from elefast.migrators.alembic.upgrade import upgrade

        layout = step.layout(root)
        os.chdir(layout.directory)
        upgrade(step.upgrade_options(), layout, connection, _UNREACHABLE_URL)
        return
    if isinstance(step, Metadata):
        for metadata in load_metadata(step.targets, root):
            create_all(connection, metadata)
        return
    if isinstance(step, Function):
        function = step.load(root)
        kind = step.argument_class(function)
        if kind in ("Connection", "Session"):
            step.call_with(function, kind, connection)
            return
    raise MigrationError(
        f"{step.label} needs connections of its own, and the given one cannot be opened again: {reason}.",
        code="given-connection",
    )


@contextmanager
def _other_connections_refused() -> Generator[None]:
    def refuse(dialect: Any, record: Any, cargs: Any, cparams: Any) -> None:
        if _runs_step.get():
            raise RefusedConnectionError(
                "elefast refused a connection: only the given connection may be used here. "
                'Use config.attributes["connection"] in env.py'
            )

    token = _runs_step.set(True)
    event.listen(Engine, "do_connect", refuse)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", refuse)
        _runs_step.reset(token)


@contextmanager
def _process_state_restored(root: Path, variables: Mapping[str, str]) -> Generator[None]:
    """Set up the process for code of the project, and restore afterwards what migrations are known to change."""
    path, environment, directory = list(sys.path), dict(os.environ), os.getcwd()
    loggers = _logging_state()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for name, template in variables.items():
        os.environ[name] = ExportedVariable(name, template).unreachable(_UNREACHABLE_HOST, "postgresql+psycopg")
    os.chdir(root)
    try:
        yield
    finally:
        os.chdir(directory)
        sys.path[:] = path
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        _restore_logging(loggers)


def _logging_state() -> dict[logging.Logger, tuple[Any, ...]]:
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        logger: (logger.disabled, logger.level, logger.propagate, list(logger.handlers), list(logger.filters))
        for logger in known
        if isinstance(logger, logging.Logger)
    }


def _restore_logging(state: Mapping[logging.Logger, tuple[Any, ...]]) -> None:
    for logger, (disabled, level, propagate, handlers, filters) in state.items():
        logger.disabled, logger.propagate = disabled, propagate
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.filters[:] = filters

"""Runs code of the project in this process, on a connection that no other process could open.

What it changes here (logging, environment, working directory, import path) is put back, and no other
connection can be made through SQLAlchemy meanwhile: an env.py that does not use the one it is offered must
not reach the database that the application's own configuration names.
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

from sqlalchemy import Connection, Engine, event

from elefast.errors import ElefastError, MigrationError
from elefast.migrators.alembic.step import Alembic
from elefast.migrators.callable import Function
from elefast.migrators.error_report import code_of, explain
from elefast.migrators.metadata import Metadata, load_metadata
from elefast.migrators.sandbox.connection_guard import RefusedConnectionError
from elefast.migrators.steps import Step
from elefast.postgres.url_variables import ExportedVariable
from elefast.templates.metadata import create_all

__all__ = ["run_here"]

_NO_HOST = "use-the-given-connection.elefast.invalid"
_NOWHERE = f"postgresql+psycopg://nobody@{_NO_HOST}/nothing"

# Of this context only: engines that other threads and tasks use are none of our business.
_alone: ContextVar[bool] = ContextVar("elefast_alone", default=False)


def run_here(part: Step, connection: Connection, root: Path, variables: Mapping[str, str], reason: str) -> None:
    """Run one part on `connection`, and on nothing else.

    Args:
        part: What to run.
        connection: The database. What is done is committed, unless it already was in a transaction.
        root: The project directory.
        variables: Environment variables that would hold the URL or parts of it, each with its driver or template;
            they hold values that cannot be connected to.
        reason: Why it has to be done here, for the errors.

    Raises:
        MigrationError: It failed, or it is a part that needs a connection of its own.
    """
    began = connection.in_transaction()
    with _as_it_was(root, variables), _alone_with_the_connection():
        try:
            if isinstance(part, Alembic):
                _upgrade(part, connection, root)
            elif isinstance(part, Metadata):
                for metadata in load_metadata(part.targets, root):
                    create_all(connection, metadata)
            elif isinstance(part, Function) and (
                (wanted := part.wanted(function := part.load(root))) in ("Connection", "Session")
            ):
                part.call_with(function, wanted, connection)
            else:
                raise MigrationError(
                    f"{part.label} needs connections of its own, and this one cannot be opened again: {reason}.",
                    code="given-connection",
                )
            if not began and connection.in_transaction():
                connection.commit()
        except ElefastError:
            raise
        except Exception as error:
            text = explain(part.label, error, root)
            raise MigrationError(
                f"{text}\n  It ran on the given connection alone, because {reason}.", code=code_of(error)
            ) from error


def _upgrade(part: Alembic, connection: Connection, root: Path) -> None:
    from elefast.migrators.alembic.upgrade import upgrade

    layout = part.layout(root)
    os.chdir(layout.directory)
    upgrade(part.upgrade_options(), layout, connection, _NOWHERE)


@contextmanager
def _alone_with_the_connection() -> Generator[None]:
    def refuse(dialect: Any, record: Any, cargs: Any, cparams: Any) -> None:
        if _alone.get():
            raise RefusedConnectionError(
                "elefast refused a connection: only the one it was given can be used here. "
                'Use config.attributes["connection"] in env.py'
            )

    token = _alone.set(True)
    event.listen(Engine, "do_connect", refuse)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", refuse)
        _alone.reset(token)


@contextmanager
def _as_it_was(root: Path, variables: Mapping[str, str]) -> Generator[None]:
    """Put back what migrations are known to change in a process."""
    path, environment, directory = list(sys.path), dict(os.environ), os.getcwd()
    loggers = _logging_state()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for name, template in variables.items():
        os.environ[name] = ExportedVariable(name, template).unreachable(_NO_HOST, "postgresql+psycopg")
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

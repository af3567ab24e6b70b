"""``migrator = "callable"``, and seeds in Python: a function of the project that gets a connection or an engine.

The annotation of its parameter decides what it gets: SQLAlchemy's ``Connection``, ``Session`` or ``Engine``, or the
async class for one of them. Without an annotation, a plain function gets a ``Connection``, and an ``async def`` an
``AsyncConnection``. Work that a function leaves uncommitted on its connection or session is committed.
A seed may take no argument, and use the application's own engine. What it returns becomes the facts of the databases.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from elefast.errors import ConfigurationError, Problem
from elefast.migrators.facts import checked_facts
from elefast.migrators.import_target import load
from elefast.migrators.steps import BuildTarget
from elefast.postgres.urls import with_driver
from elefast.runtime import event_loops
from elefast.templates.fingerprint import Input

__all__ = ["Function"]

# Classes that the parameter may be annotated with, each with its module. Subclasses count as well.
_ARGUMENTS = {
    "Connection": "sqlalchemy.engine",
    "Engine": "sqlalchemy.engine",
    "Session": "sqlalchemy.orm",
    "AsyncConnection": "sqlalchemy.ext.asyncio",
    "AsyncEngine": "sqlalchemy.ext.asyncio",
    "AsyncSession": "sqlalchemy.ext.asyncio",
}


_MIGRATOR_KEY = "callable.target"


@dataclass(frozen=True, slots=True)
class Function:
    """A function that fills a database.

    Args:
        target: ``package.module:function``.
        key: The configuration key that names it, for errors.
    """

    target: str
    key: str = _MIGRATOR_KEY
    runs_project_code: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return f"{self.target} ({self.key})" if self.key.startswith("scenarios.") else self.target

    def inputs(self, root: Path) -> Sequence[Input]:
        # Its module, and other modules that this imports, are observed when it runs.
        return [Input.of(self.key, self.target)]

    def declared(self, root: Path) -> Sequence[Path]:
        return ()

    def why_not_kept(self, root: Path) -> str:
        return ""

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        return self.inputs(root), self.why_not_kept(root)

    def run(self, target: BuildTarget) -> None:
        function = self.load(target.root)
        kind = self.argument_class(function)
        if kind.startswith("Async"):
            result = event_loops.run(_call_async(function, kind, target))
        else:
            engine = create_engine(with_driver(target.url, f"postgresql+{target.driver}"), poolclass=NullPool)
            try:
                result = self.call_with(function, kind, engine)
            finally:
                engine.dispose()
        if self.key != _MIGRATOR_KEY:
            target.returned.update(checked_facts(result, function, self.label, target.root))

    def call_with(self, function: Any, kind: str, source: Engine | Connection) -> Any:
        """Call a function that takes a sync object, and commit the work that it leaves uncommitted; its result.

        Args:
            function: The function, which may be async.
            kind: The class of the argument, as `argument_class` gives it.
            source: The engine or connection to make the argument from; an engine for ``Engine``.

        Raises:
            ConfigurationError: The function is not async, and returned an awaitable.
        """
        if kind == "Session":
            from sqlalchemy.orm import Session

            with Session(source) as session:
                result = self.call(function, session)
                session.commit()
            return result
        if kind == "Engine" or isinstance(source, Connection):
            return self.call(function, source)
        with source.connect() as connection:
            result = self.call(function, connection)
            if not connection.closed:
                connection.commit()
        return result

    def argument_class(self, function: Any) -> str:
        """The name of the class of SQLAlchemy that the function takes.

        Raises:
            ConfigurationError: It is a plain function, and takes an object of an async class.
        """
        kind = _annotated_class(function) or ("AsyncConnection" if is_async(function) else "Connection")
        if kind.startswith("Async") and not is_async(function):
            raise self._problem(f"it takes an {kind}, which it cannot await; write it as `async def`")
        return kind

    def load(self, root: Path) -> Any:
        """Import the function.

        Args:
            root: The project directory.

        Raises:
            ConfigurationError: The target is no function, or the function does not take one argument.
        """
        function: Any = load(self.target, self.key, root)
        if not callable(function):
            raise self._problem(f"expected a function that takes a connection or an engine, found {function!r}")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return function  # written in C, without a signature
        if self.key != _MIGRATOR_KEY and not signature.parameters:
            return _without_argument(function)
        try:
            signature.bind(object())
        except TypeError:
            raise self._problem(
                f"it must take one argument, a connection or an engine; its parameters are {signature}"
            ) from None
        return function

    def call(self, function: Any, argument: object) -> Any:
        """Call a function with its argument; an async function runs in a new event loop.

        Returns:
            The result of the function.

        Raises:
            ConfigurationError: The function is not async, and returned an awaitable.
        """
        if is_async(function):
            return event_loops.run(function(argument))
        result = function(argument)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise self._problem("it returned something to await; write it as `async def`")
        return result

    def _problem(self, message: str) -> ConfigurationError:
        return ConfigurationError([Problem("", self.key, f'"{self.target}": {message}', code="target-wrong-kind")])


def is_async(function: Any) -> bool:
    """Whether a call of `function` returns a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  for its code, not to find out whether it is callable
    )


def _without_argument(function: Any) -> Any:
    """`function`, which takes no argument, as one that ignores its argument."""
    if is_async(function):

        async def call_async(_: object) -> Any:
            return await function()

        return wraps(function)(call_async)

    def call(_: object) -> Any:
        return function()

    return wraps(function)(call)


def _annotated_class(function: Any) -> str:
    """The class of SQLAlchemy in the annotation of the first parameter; empty where there is none."""
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ""
    if not parameters:
        return ""
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        # An annotation that is imported under TYPE_CHECKING cannot be evaluated. Then its name decides.
        with suppress(Exception):
            annotation = get_type_hints(target).get(parameters[0].name, annotation)
    if isinstance(annotation, str):
        name = annotation.strip("\"' ").rpartition(".")[2]
        return name if name in _ARGUMENTS else ""
    for name, module in _ARGUMENTS.items():
        # A class whose module was never imported cannot be the annotation.
        candidate = getattr(sys.modules.get(module), name, None)
        if isinstance(annotation, type) and candidate is not None and issubclass(annotation, candidate):
            return name
    return ""


async def _call_async(function: Any, kind: str, target: BuildTarget) -> Any:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    url = with_driver(target.url, f"postgresql+{target.async_driver}")
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        if kind == "AsyncEngine":
            result = await function(engine)
        elif kind == "AsyncSession":
            async with AsyncSession(engine) as session:
                result = await function(session)
                await session.commit()
        else:
            async with engine.connect() as connection:
                result = await function(connection)
                if not connection.closed:
                    await connection.commit()
    finally:
        await engine.dispose()
    return result

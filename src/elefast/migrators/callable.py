"""``migrator = "callable"``, and seeds in Python: a function of the project that gets a connection or an engine.

The annotation of its parameter says what it gets: SQLAlchemy's ``Connection``, ``Session`` or ``Engine``, or the
async twin of one. Without an annotation, a plain function gets a ``Connection``, and an ``async def`` an
``AsyncConnection``. What a function leaves uncommitted on its connection or session is committed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import NullPool

from elefast.errors import ConfigurationError, Problem
from elefast.migrators.import_target import load
from elefast.migrators.steps import BuildTarget
from elefast.postgres.urls import with_driver
from elefast.runtime import event_loops
from elefast.templates.fingerprint import Input

__all__ = ["Function"]

# Classes that a function may ask for, each with the module that has it. A subclass of AsyncSession is one, too.
_ARGUMENTS = {
    "Connection": "sqlalchemy.engine",
    "Engine": "sqlalchemy.engine",
    "Session": "sqlalchemy.orm",
    "AsyncConnection": "sqlalchemy.ext.asyncio",
    "AsyncEngine": "sqlalchemy.ext.asyncio",
    "AsyncSession": "sqlalchemy.ext.asyncio",
}


@dataclass(frozen=True, slots=True)
class Function:
    """A function that fills a database.

    Args:
        target: ``package.module:function``.
        key: The configuration key that it is from.
    """

    target: str
    key: str = "callable.target"
    runs_project_code: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return self.target

    def inputs(self, root: Path) -> Sequence[Input]:
        # Its module and what that imports is observed when it runs.
        return [Input.of(self.key, self.target)]

    def declared(self, root: Path) -> Sequence[Path]:
        return ()

    def why_not_kept(self, root: Path) -> str:
        return ""

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        return self.inputs(root), self.why_not_kept(root)

    def run(self, target: BuildTarget) -> None:
        function = self.load(target.root)
        wanted = self.wanted(function)
        if wanted.startswith("Async"):
            event_loops.run(_call_async(function, wanted, target))
            return
        engine = create_engine(with_driver(target.url, f"postgresql+{target.driver}"), poolclass=NullPool)
        try:
            self.call_with(function, wanted, engine)
        finally:
            engine.dispose()

    def call_with(self, function: Any, wanted: str, source: Engine | Connection) -> None:
        """Call a plain function, or an async one that asks for a sync object, and commit what it leaves.

        Args:
            function: What to call.
            wanted: What it gets, as of `wanted`.
            source: Where that comes from; an engine for ``Engine``.
        """
        if wanted == "Engine":
            self.call(function, source)
        elif wanted == "Session":
            from sqlalchemy.orm import Session

            with Session(source) as session:
                self.call(function, session)
                session.commit()
        elif isinstance(source, Connection):
            self.call(function, source)
        else:
            with source.connect() as connection:
                self.call(function, connection)
                if not connection.closed:
                    connection.commit()

    def wanted(self, function: Any) -> str:
        """What the function asks for: the name of one of SQLAlchemy's classes.

        Raises:
            ConfigurationError: It is a plain function, and asks for something to await.
        """
        wanted = _annotated(function) or ("AsyncConnection" if is_async(function) else "Connection")
        if wanted.startswith("Async") and not is_async(function):
            raise self._problem(f"it takes an {wanted}, which it cannot await; write it as `async def`")
        return wanted

    def load(self, root: Path) -> Any:
        """The function itself.

        Raises:
            ConfigurationError: There is none, or it does not take one argument.
        """
        function: Any = load(self.target, self.key, root)
        if not callable(function):
            raise self._problem(f"expected a function that takes a connection or an engine, found {function!r}")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return function  # one in C, which cannot be asked
        try:
            signature.bind(object())
        except TypeError:
            raise self._problem(
                f"it must take one argument, a connection or an engine; its parameters are {signature}"
            ) from None
        return function

    def call(self, function: Any, argument: object) -> None:
        """Call a function with what it asks for; an async one runs in a loop of its own."""
        if is_async(function):
            event_loops.run(function(argument))
            return
        result = function(argument)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise self._problem("it returned something to await; write it as `async def`")

    def _problem(self, message: str) -> ConfigurationError:
        return ConfigurationError([Problem("", self.key, f'"{self.target}": {message}', code="target-wrong-kind")])


def is_async(function: Any) -> bool:
    """Whether calling `function` gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  its code is wanted, not whether it can be called
    )


def _annotated(function: Any) -> str:
    """The class of SQLAlchemy that the first parameter is annotated with; empty where it is another or none."""
    target = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ""
    if not parameters:
        return ""
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        # Imported under TYPE_CHECKING, it cannot be evaluated, and its name has to do.
        with suppress(Exception):
            annotation = get_type_hints(target).get(parameters[0].name, annotation)
    if isinstance(annotation, str):
        name = annotation.strip("\"' ").rpartition(".")[2]
        return name if name in _ARGUMENTS else ""
    for name, module in _ARGUMENTS.items():
        # What was not imported is not what it asks for.
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(annotation, type) and kind is not None and issubclass(annotation, kind):
            return name
    return ""


async def _call_async(function: Any, wanted: str, target: BuildTarget) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    url = with_driver(target.url, f"postgresql+{target.async_driver}")
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        if wanted == "AsyncEngine":
            await function(engine)
        elif wanted == "AsyncSession":
            async with AsyncSession(engine) as session:
                await function(session)
                await session.commit()
        else:
            async with engine.connect() as connection:
                await function(connection)
                if not connection.closed:
                    await connection.commit()
    finally:
        await engine.dispose()

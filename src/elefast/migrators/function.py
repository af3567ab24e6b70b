"""``migrator = "callable"``, and seeds in Python: a function of the project that gets a connection.

A plain function gets SQLAlchemy's ``Connection``, an ``async def`` its ``AsyncConnection``; what it leaves
uncommitted is committed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from elefast import loops
from elefast.errors import ConfigurationError, Problem
from elefast.kernel.fingerprint import Input
from elefast.migrators.parts import Target
from elefast.migrators.targets import load
from elefast.urls import with_driver

__all__ = ["Function"]


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

    def run(self, target: Target) -> None:
        function = self.load(target.root)
        if is_async(function):
            loops.run(_call_async(function, target))
            return
        engine = create_engine(with_driver(target.url, f"postgresql+{target.driver}"), poolclass=NullPool)
        with engine.connect() as connection:
            self.call(function, connection)
            if not connection.closed:
                connection.commit()

    def load(self, root: Path) -> Any:
        """The function itself.

        Raises:
            ConfigurationError: There is none, or it does not take one argument.
        """
        function: Any = load(self.target, self.key, root)
        if not callable(function):
            raise self._problem(f"expected a function that takes a connection, found {function!r}")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return function  # one in C, which cannot be asked
        try:
            signature.bind(object())
        except TypeError:
            raise self._problem(f"it must take one argument, a connection; its parameters are {signature}") from None
        return function

    def call(self, function: Any, connection: object) -> None:
        """Call a plain function."""
        result = function(connection)
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


async def _call_async(function: Any, target: Target) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    url = with_driver(target.url, f"postgresql+{target.async_driver}")
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await function(connection)
            if not connection.closed:
                await connection.commit()
    finally:
        await engine.dispose()

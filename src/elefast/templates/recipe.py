"""What a template is made from: the protocol, and the recipe of an object with ``migrate(connection)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy import URL, Engine

from elefast.errors import ElefastError, MigrationError
from elefast.postgres import driver_errors
from elefast.postgres.connections.engines import EngineFactory
from elefast.runtime import event_loops
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import Manifest

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["PreparedRecipe", "Recipe", "recipe_of"]


class Recipe(Protocol):
    """How a template is made, and what it is made of."""

    def inputs(self) -> Sequence[Input] | None:
        """Everything that is declared: files, options, compiled DDL. None where that cannot be known."""
        ...

    def why_not_kept(self) -> str:
        """Why a template of this recipe must not outlive the run; empty where it may."""
        ...

    def build(self, url: URL, *, mark: str = "") -> Manifest:
        """Make the schema in the empty database at `url`; say what was seen to be used.

        Args:
            url: The database.
            mark: The comment that roles and tablespaces get which are made; none where empty.
        """
        ...

    def still_fits(self, manifest: Manifest) -> list[str]:
        """What has changed since `manifest` was taken, in words; empty where nothing has."""
        ...


class PreparedRecipe(Recipe, Protocol):
    """A recipe that may start a process for the build before the server is there."""

    def prepare(self) -> None:
        """Start what the build needs; called while the server starts."""
        ...

    def let_go(self) -> None:
        """End what `prepare` started, whether it was used or not."""
        ...


def recipe_of(schema: Any, engines: EngineFactory) -> Recipe:
    """`schema` as a recipe: as it is if it knows how, else by its ``migrate`` or ``migrate_async``."""
    if all(hasattr(schema, name) for name in ("inputs", "build", "still_fits", "why_not_kept")):
        return cast("Recipe", schema)
    return MigratorRecipe(schema, engines)


class MigratorRecipe:
    """A recipe from an object that has ``migrate(connection)`` or ``migrate_async(connection)``."""

    def __init__(self, migrator: Any, engines: EngineFactory) -> None:
        self._migrator = migrator
        self._engines = engines

    def inputs(self) -> Sequence[Input] | None:
        fingerprint = getattr(self._migrator, "fingerprint", None)
        found = fingerprint() if callable(fingerprint) else None
        if found is None:
            return None
        return [Input.of("migrator", repr(self._migrator.__class__)), *_inputs(found)]

    def why_not_kept(self) -> str:
        return "" if self.inputs() is not None else f"{type(self._migrator).__name__} has no fingerprint()"

    def still_fits(self, manifest: Manifest) -> list[str]:
        return []

    def build(self, url: URL, *, mark: str = "") -> Manifest:  # servers that a user made give no mark
        engine = self._engines.make(url.database or "")
        try:
            if engine.dialect.is_async:
                # A build never runs on a thread with an event loop: the async server hands it to another thread.
                event_loops.run(self._build_async(engine))
            else:
                self._build(engine)
        except ElefastError:
            raise
        except Exception as error:
            name = type(self._migrator).__name__
            raise MigrationError(
                f"{name} failed: {type(error).__name__}: {driver_errors.driver_message(error)}", code="migration-failed"
            ) from error
        return Manifest()

    def _build(self, engine: Engine) -> None:
        try:
            with engine.connect() as connection:
                self._migrator.migrate(connection)
                connection.commit()
        finally:
            engine.dispose()

    async def _build_async(self, sync_engine: Engine) -> None:
        from sqlalchemy.ext.asyncio import AsyncEngine

        engine: AsyncEngine = AsyncEngine(sync_engine)
        try:
            async with engine.connect() as connection:
                if hasattr(self._migrator, "migrate_async"):
                    await self._migrator.migrate_async(connection)
                else:
                    await connection.run_sync(self._migrator.migrate)
                await connection.commit()
        finally:
            await engine.dispose()


def _inputs(found: Any) -> Sequence[Input]:
    """What a ``fingerprint()`` gave: a string, or a sequence of inputs."""
    if isinstance(found, str | bytes):
        return [Input.of("fingerprint", found)]
    return list(found)

"""What a template is made from: the protocols, and the recipe for an object with ``migrate(connection)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from sqlalchemy import URL, Engine

from elefast.errors import ElefastError, MigrationError
from elefast.postgres import driver_errors
from elefast.postgres.connections.engines import EngineFactory
from elefast.runtime import event_loops
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import Manifest

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["MIGRATED", "Layer", "LayeredRecipe", "PreparedRecipe", "Recipe", "layers_of", "recipe_of", "scenarios_of"]

MIGRATED = "migrated"
"""The layer of extensions and the migrator, and of a recipe that has no layers."""


class Recipe(Protocol):
    """Builds the schema of a template, and declares its inputs."""

    def inputs(self) -> Sequence[Input] | None:
        """All declared inputs: files, options, compiled DDL. None where they are unknown."""
        ...

    def why_not_kept(self) -> str:
        """Why a template of this recipe must not outlive the run; empty where it may."""
        ...

    def build(self, url: URL, *, mark: str = "") -> Manifest:
        """Build the schema in the empty database at `url`.

        Args:
            url: The database.
            mark: The comment for roles and tablespaces that the build makes; empty for none.

        Returns:
            What the build was seen to use.

        Raises:
            ElefastError: The build failed.
        """
        ...

    def still_fits(self, manifest: Manifest) -> list[str]:
        """What has changed since `manifest` was recorded, in words; empty where nothing has."""
        ...


class Layer(NamedTuple):
    """One layer of a template: a database that is built on a copy of the layer below it.

    Args:
        name: ``migrated``, ``seeded``, or the name of a scenario.
        recipe: Builds this layer alone. The first layer starts from an empty database.
    """

    name: str
    recipe: Recipe


class LayeredRecipe(Recipe, Protocol):
    """A recipe whose templates are built in layers, so that a change of one layer does not repeat those below."""

    @property
    def scenarios(self) -> Sequence[str]:
        """The names of all scenarios."""
        ...

    def layers(self, scenario: str = "") -> Sequence[Layer]:
        """The layers of a state, the lowest first; none where its databases are empty.

        Args:
            scenario: The scenario; empty for the state after migrator and seeds.

        Raises:
            ConfigurationError: There is no such scenario.
        """
        ...


class PreparedRecipe(LayeredRecipe, Protocol):
    """A recipe that can start a process for the build before the server runs."""

    def prepare(self) -> None:
        """Start the process for a build; called while the server starts."""
        ...

    def stop_preparation(self) -> None:
        """End the process that `prepare` started, unless a build has used it; safe to repeat."""
        ...


def layers_of(recipe: Recipe, scenario: str = "") -> Sequence[Layer]:
    """The layers of a state; a recipe without layers is one layer itself."""
    layers = getattr(recipe, "layers", None)
    found: Sequence[Layer] = layers(scenario) if layers is not None else [Layer(MIGRATED, recipe)]
    return found


def scenarios_of(recipe: Recipe) -> Sequence[str]:
    """The names of the recipe's scenarios."""
    found: Sequence[str] = getattr(recipe, "scenarios", ())
    return found


def recipe_of(schema: Any, engines: EngineFactory) -> Recipe:
    """`schema` itself if it is a recipe, else a recipe that calls its ``migrate`` or ``migrate_async``.

    Args:
        schema: The object that a user has given to a server.
        engines: Makes engines for the template that is being built.
    """
    if all(hasattr(schema, name) for name in ("inputs", "build", "still_fits", "why_not_kept")):
        return cast("Recipe", schema)
    return MigratorRecipe(schema, engines)


class MigratorRecipe:
    """The recipe for an object with ``migrate(connection)`` or ``migrate_async(connection)``.

    Args:
        migrator: The object. Where it has ``fingerprint()``, that gives the inputs.
        engines: Makes engines for the template that is being built.
    """

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

    def build(self, url: URL, *, mark: str = "") -> Manifest:  # servers of users pass no mark
        engine = self._engines.make(url.database or "")
        try:
            if engine.dialect.is_async:
                # No event loop runs in this thread: the async server starts builds in a thread without one.
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
    """The result of a ``fingerprint()``, a string or a sequence of inputs, as inputs."""
    if isinstance(found, str | bytes):
        return [Input.of("fingerprint", found)]
    return list(found)

"""The whole recipe of a template: extensions, then a migrator, then seeds, then scenarios.

A template is built in layers (`Plan.layers`): *migrated* has the extensions and the migrator, *seeded* the seeds, and
each scenario is one layer more. Each layer is a plan itself, with its own steps only.
Steps of a layer run in this process up to the first one that runs Python code of the project. That step and all later
ones run in one fresh interpreter.
Most runs find their template and only ask for the inputs, so the modules that build one are imported on first use.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import URL, Connection

from elefast.errors import ConfigurationError, ElefastError, MigrationError, Problem
from elefast.migrators.files import watched, watched_variables
from elefast.migrators.steps import BuildTarget, Step
from elefast.postgres.url_variables import ExportedVariable
from elefast.runtime import progress
from elefast.templates import file_digests
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import Manifest
from elefast.templates.recipe import MIGRATED, Layer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from elefast.migrators.sandbox.parent import BuildProcess

__all__ = ["SEEDED", "Plan", "Scenario"]

SEEDED = "seeded"
"""The layer of the seeds that all tests have."""


class Scenario(NamedTuple):
    """A state on top of another one.

    Args:
        base: The scenario below it; empty for the state after migrator and seeds.
        seeds: Its SQL files and functions, like those of `Plan`.
    """

    base: str = ""
    seeds: Sequence[str] = ()


class Plan:
    """How a template is made: a recipe for `elefast.templates`, and a migrator for any server.

    Args:
        root: The project directory. Relative paths start there, and it is the working directory of the
            project's code.
        extensions: Extensions to create first.
        migrator: The step that creates the schema; None for an empty one.
        grants: The rights of roles, granted after the migrator: the name of each role with a level (``read``,
            ``write``) or with SQL files.
        seeds: SQL files (names and globs that end in ``.sql``) and functions (``module:function``), in order.
        scenarios: Further states by name; their bases form no cycle.
        patch: Attributes of modules, as ``module:name``, that lead to the draft while seed functions run.
        watch: Further files, directories and globs that the result depends on.
        watch_variables: Further environment variables that the result depends on.
        url_variables: Environment variables that hold the template's URL, or parts of it, while code of the project
            or a command runs. The format is that of `elefast.postgres.url_variables`; ``NAME`` alone gets a URL
            with `driver`.
        driver: Driver of the connection that a function of the project gets.
        async_driver: Driver of the connection that an async function gets.
        test_run: The name of this test run. It is part of ``application_name``, and limits a template that other
            programs helped to build to the processes of the run.
        owned: Elefast starts the server, so libpq's environment variables are meant for another one.

    Raises:
        ConfigurationError: An entry of `url_variables` is malformed.
    """

    def __init__(
        self,
        *,
        root: Path,
        extensions: Sequence[str] = (),
        migrator: Step | None = None,
        grants: Mapping[str, str | Sequence[str]] | None = None,
        seeds: Sequence[str] = (),
        scenarios: Mapping[str, Scenario] | None = None,
        patch: Sequence[str] = (),
        watch: Sequence[str] = (),
        watch_variables: Sequence[str] = (),
        url_variables: Sequence[str] = (),
        driver: str = "psycopg",
        async_driver: str = "psycopg",
        test_run: str = "",
        owned: bool = False,
    ) -> None:
        # Without symbolic links: the fresh interpreter sees its working directory so, and the manifest's paths are
        # relative to that.
        self.root = root.resolve()
        self.migrator = migrator
        self._migrated: tuple[Step, ...] = (
            *([_extensions(extensions)] if extensions else []),
            *([migrator] if migrator else []),
            *(_grants(role, rights) for role, rights in (grants or {}).items()),
        )
        self._seeded = tuple(_seed(seed, "seed") for seed in seeds)
        self._scenarios = dict(scenarios or {})
        self._scenario_layers: dict[str, Layer] = {}
        self._patch = tuple(patch) if seeds else ()
        self._all_patch = tuple(patch)
        self.steps: tuple[Step, ...] = (*self._migrated, *self._seeded)
        self._watch = tuple(watch)
        self._watch_variables = tuple(watch_variables)
        self._variables = _variables(url_variables, driver)
        self._driver = driver
        self._async_driver = async_driver
        self._test_run = test_run
        self._owned = owned
        self._application_name = f"elefast build {test_run}".rstrip()
        self._whole: Plan | None = None
        """The plan that this one is a layer of."""
        self._prepared: BuildProcess | None = None
        """The interpreter that `prepare` started, until `build` uses it."""

    def __repr__(self) -> str:
        return f"<Plan {'; '.join(step.label for step in self.steps) or 'of an empty database'}>"

    # -- its layers -------------------------------------------------------------------------------------------

    @property
    def scenarios(self) -> Sequence[str]:
        """The names of all scenarios."""
        return tuple(self._scenarios)

    def layers(self, scenario: str = "") -> Sequence[Layer]:
        """The layers of a state, the lowest first; none where its databases are empty.

        Args:
            scenario: The scenario; empty for the state after migrator and seeds.

        Raises:
            ConfigurationError: There is no such scenario.
        """
        if not scenario:
            return self._common_layers
        if scenario not in self._scenarios:
            problem = Problem("", "scenario", f'there is no scenario "{scenario}"', code="unknown-scenario")
            raise ConfigurationError([problem])
        return (*self.layers(self._scenarios[scenario].base), self._scenario_layer(scenario))

    def _scenario_layer(self, name: str) -> Layer:
        if name not in self._scenario_layers:
            steps = [_seed(seed, f"scenarios.{name}.seed") for seed in self._scenarios[name].seeds]
            self._scenario_layers[name] = Layer(name, self._part(steps, self._all_patch))
        return self._scenario_layers[name]

    @cached_property
    def _common_layers(self) -> tuple[Layer, ...]:
        """The layers below all scenarios. A project without seeds has one, and pays for no further copy."""
        parts: tuple[tuple[str, tuple[Step, ...], tuple[str, ...]], ...] = (
            (MIGRATED, self._migrated, ()),
            (SEEDED, self._seeded, self._all_patch),
        )
        return tuple(Layer(name, self._part(steps, patch)) for name, steps, patch in parts if steps)

    def _part(self, steps: Sequence[Step], patch: tuple[str, ...]) -> Plan:
        """A plan with some of the steps."""
        part = copy.copy(self)
        part.steps = tuple(steps)
        part._patch = patch
        part._whole = self
        return part

    # -- a recipe for `elefast.templates` ---------------------------------------------------------------------

    def inputs(self) -> Sequence[Input]:
        """All declared inputs. `why_not_kept` tells whether the result may depend on anything else.

        Raises:
            ConfigurationError: A file or module that a step names does not exist.
        """
        described = [step.describe(self.root) for step in self.steps]
        found = [item for items, _ in described for item in items]
        found += watched(self.root, self._watch)
        found += watched_variables(self._watch_variables)
        found.append(Input.of("steps of the build (extensions, migrator, seeds)", *(step.label for step in self.steps)))
        if any(step.runs_project_code for step in self.steps):
            names = sorted(f"{name}={template}" for name, template in self._variables.items())
            found.append(Input.of("variables with the URL", *names))
            found.append(Input.of("drivers", self._driver, self._async_driver))
            if self._patch:
                found.append(Input.of("patch", *self._patch))
        if not self._watch and any(why for _, why in described):
            # Inputs that are unknown may differ between two projects, so these must not share a template.
            found.append(Input.of("project directory", str(self.root)))
        return list(dict.fromkeys(found))

    def fingerprint(self) -> Sequence[Input] | None:
        """The `inputs`; None where the result may depend on anything else."""
        return None if self.why_not_kept() else self.inputs()

    def why_not_kept(self) -> str:
        """Why the result must not outlive the run; empty where it may."""
        if self._watch:
            return ""  # the project declares the inputs that elefast cannot see
        return next((why for step in self.steps if (why := step.why_not_kept(self.root))), "")

    def still_fits(self, manifest: Manifest) -> list[str]:
        """What has changed since `manifest` was recorded, in words; empty where nothing has.

        Elefast cannot see which files another program read for the build. Such a result fits in the same test run
        only, unless ``template.watch`` names those files.
        """
        changes = manifest.differences(self.root)
        same_run = self._test_run and manifest.test_run == self._test_run
        if manifest.programs and not self._watch and not same_run:
            programs = ", ".join(manifest.programs)
            changes.append(f"built with the help of {programs}, whose inputs are not known without template.watch")
        return changes

    def build(self, url: URL, *, mark: str = "") -> Manifest:
        """Run all steps in the empty database at `url`.

        Args:
            url: The database.
            mark: The comment for roles and tablespaces that the build makes; empty for none.

        Returns:
            What the code was seen to use.

        Raises:
            ConfigurationError: A file or module that a step names does not exist.
            MigrationError: Code or SQL of the project failed.
            MissingRightsError: The role may not create an extension.
        """
        target = BuildTarget(
            url,
            self.root,
            self._driver,
            self._async_driver,
            self._variables,
            self._application_name,
            self._owned,
            mark,
            patch=self._patch,
        )
        # A file that is missing is an error before the first step runs.
        declared = [path for step in self.steps for path in step.declared(self.root)]
        sandboxed = self._sandboxed_steps
        for step in self.steps[: len(self.steps) - len(sandboxed)]:
            _run(step, target)
        if not sandboxed:
            _refuse_changed_files(declared)
            return Manifest()
        progress.begin_part(sandboxed[0].label)
        manifest = self._build_process(sandboxed).run(target, declared)
        _refuse_changed_files(declared)
        return replace(manifest, test_run=self._test_run) if manifest.programs else manifest

    def prepare(self) -> None:
        """Start the interpreter that the first build will need, so that it imports its modules while the server starts.

        Only a layer that runs code of the project needs one.
        """
        sandboxed = next(filter(None, (part._sandboxed_steps for part in self._parts)), ())
        if sandboxed and self._prepared is None:
            from elefast.migrators.sandbox.parent import BuildProcess

            self._prepared = BuildProcess(sandboxed, self.root)

    def stop_preparation(self) -> None:
        """End the interpreter that `prepare` started, unless `build` has used it; safe to repeat."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.close()

    @property
    def _parts(self) -> list[Plan]:
        return [layer.recipe for layer in self._common_layers if isinstance(layer.recipe, Plan)]

    def _build_process(self, steps: Sequence[Step]) -> BuildProcess:
        """The prepared interpreter if it fits, else a new one."""
        whole = self._whole or self
        prepared, whole._prepared = whole._prepared, None
        if prepared is not None and prepared.fits(steps):
            return prepared
        if prepared is not None:
            prepared.close()
        from elefast.migrators.sandbox.parent import BuildProcess

        return BuildProcess(steps, self.root)

    @property
    def _sandboxed_steps(self) -> tuple[Step, ...]:
        """The steps from the first one on that runs code of the project."""
        return tuple(dropwhile(lambda step: not step.runs_project_code, self.steps))

    # -- a migrator for any server ---------------------------------------------------------------------------

    def migrate(self, connection: Connection) -> None:
        """Run all steps in the database of `connection`.

        They run as in `build`, on separate connections. Where the database cannot be opened again, they run in
        this process on `connection`, and what they change in the process is restored.

        Raises:
            ConfigurationError: A file or module that a step names does not exist.
            MigrationError: A step failed, or it cannot run on this connection.
        """
        from elefast.migrators.in_process import CannotReopenError, url_to_reopen

        try:
            url = url_to_reopen(connection)
        except CannotReopenError as reason:
            self._migrate_in_process(connection, str(reason))
        else:
            self.build(url)

    async def migrate_async(self, connection: AsyncConnection) -> None:
        """The same for an `AsyncConnection`; the event loop is not blocked where the steps run elsewhere."""
        import asyncio

        from elefast.migrators.in_process import CannotReopenError, url_to_reopen

        try:
            url = await connection.run_sync(url_to_reopen)
        except CannotReopenError as reason:
            await connection.run_sync(self._migrate_in_process, str(reason))
        else:
            await asyncio.to_thread(self.build, url)

    def _migrate_in_process(self, connection: Connection, reason: str) -> None:
        from elefast.migrators.in_process import run_on_connection

        for step in self.steps:
            run_on_connection(step, connection, self.root, self._variables, reason)


def _run(step: Step, target: BuildTarget) -> None:
    """Run a step in this process."""
    progress.begin_part(step.label)
    try:
        step.run(target)
    except ElefastError:
        raise
    except Exception as error:
        from elefast.migrators.error_report import code_of, explain

        raise MigrationError(explain(step.label, error, target.root), code=code_of(error)) from error


def _refuse_changed_files(declared: Sequence[Path]) -> None:
    """Raise MigrationError where a declared file was written during the build.

    Its content may have been another one for a moment. The key does not show that, and the template may.
    """
    changed = next((path for path in declared if file_digests.was_touched(path)), None)
    if changed is not None:
        raise MigrationError(f"{changed} changed while the template was built; run again.", code="files-changed")


def _extensions(names: Sequence[str]) -> Step:
    from elefast.migrators.extensions import Extensions

    return Extensions(tuple(names))


def _grants(role: str, rights: str | Sequence[str]) -> Step:
    from elefast.migrators.grants import Grants

    return Grants(role, rights) if isinstance(rights, str) else Grants(role, "", tuple(rights))


def _seed(seed: str, key: str) -> Step:
    if seed.endswith(".sql"):
        from elefast.migrators.sql import Sql

        return Sql((seed,), key)
    from elefast.migrators.callable import Function

    return Function(seed, key)


def _variables(written: Sequence[str], driver: str) -> dict[str, str]:
    exported = [ExportedVariable.parse(entry) for entry in written]
    return {variable.name: variable.template or f"postgresql+{driver}" for variable in exported}

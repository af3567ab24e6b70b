"""The whole recipe of a template: extensions, then a migrator, then seeds.

Parts that run no Python code of the project run here, all others in one fresh interpreter.
Most runs find their template and only ask what it depends on, so what builds one is imported when it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection

from elefast.errors import ElefastError, MigrationError
from elefast.migrators.files import watched, watched_variables
from elefast.migrators.steps import BuildTarget, Step
from elefast.postgres.url_variables import ExportedVariable
from elefast.runtime import progress
from elefast.templates import file_digests
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import Manifest

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from elefast.migrators.sandbox.parent import BuildProcess

__all__ = ["Plan"]


class Plan:
    """How a template is made: a recipe for the template protocol, and a migrator for any server.

    Args:
        root: The project directory. Relative paths start there, and it is the working directory of the
            project's code.
        extensions: Extensions to create first.
        migrator: What makes the schema; None for an empty one.
        seeds: Files that end in ``.sql``, globs of such, and ``module:function``; in order.
        watch: Further files, directories and globs that the result depends on.
        watch_variables: Further environment variables that the result depends on.
        url_variables: Environment variables that hold the template's URL, or parts of it, while code of the project
            or a command runs, as `elefast.postgres.url_variables` reads them: ``NAME`` has the driver of `driver`.
        driver: Driver of the connection that a function of the project gets.
        async_driver: Driver of the connection that an async function gets.
        kept_digests: A file that keeps the digests of the project's files for the next run; none where empty.
        test_run: What this run of tests is called, for ``application_name``, and so that its processes share a
            template that others must not use.
        owned: Elefast starts the server, so libpq's environment variables are meant for another one.
    """

    def __init__(
        self,
        *,
        root: Path,
        extensions: Sequence[str] = (),
        migrator: Step | None = None,
        seeds: Sequence[str] = (),
        watch: Sequence[str] = (),
        watch_variables: Sequence[str] = (),
        url_variables: Sequence[str] = (),
        driver: str = "psycopg",
        async_driver: str = "psycopg",
        kept_digests: str = "",
        test_run: str = "",
        owned: bool = False,
    ) -> None:
        # Without symbolic links, as the other interpreter sees it and the manifest counts it.
        self.root = root.resolve()
        self.migrator = migrator
        self.parts: tuple[Step, ...] = (
            *([_extensions(extensions)] if extensions else []),
            *([migrator] if migrator else []),
            *(_seed(seed) for seed in seeds),
        )
        self._watch = tuple(watch)
        self._watch_variables = tuple(watch_variables)
        self._variables = _variables(url_variables, driver)
        self._driver = driver
        self._async_driver = async_driver
        self._digests = kept_digests
        self._test_run = test_run
        self._owned = owned
        self._application_name = f"elefast build {test_run}".rstrip()
        self._waiting: BuildProcess | None = None

    def __repr__(self) -> str:
        return f"<Plan {'; '.join(part.label for part in self.parts) or 'of an empty database'}>"

    # -- a recipe --------------------------------------------------------------------------------------------

    def inputs(self) -> Sequence[Input]:
        """Everything that is declared. `why_not_kept` tells whether that is all that the result depends on.

        Raises:
            ConfigurationError: Something that is named does not exist.
        """
        if self._digests:
            file_digests.load(self._digests)
        looked = [part.describe(self.root) for part in self.parts]
        found = [item for items, _ in looked for item in items]
        found += watched(self.root, self._watch)
        found += watched_variables(self._watch_variables)
        found.append(Input.of("steps of the build (extensions, migrator, seeds)", *(part.label for part in self.parts)))
        if any(part.runs_project_code for part in self.parts):
            names = sorted(f"{name}={template}" for name, template in self._variables.items())
            found.append(Input.of("variables with the URL", *names))
            found.append(Input.of("drivers", self._driver, self._async_driver))
        if not self._watch and any(why for _, why in looked):
            # What is not known of two projects is not taken for the same.
            found.append(Input.of("project directory", str(self.root)))
        return list(dict.fromkeys(found))

    def fingerprint(self) -> Sequence[Input] | None:
        """The `inputs` where they are all that the result depends on, else None."""
        return None if self.why_not_kept() else self.inputs()

    def why_not_kept(self) -> str:
        """Why the result must not outlive the run; empty where it may."""
        if self._watch:
            return ""  # the project says what it depends on
        return next((why for part in self.parts if (why := part.why_not_kept(self.root))), "")

    def still_fits(self, manifest: Manifest) -> list[str]:
        """What has changed since `manifest` was taken, in words; empty where nothing has.

        What another program did for the build is not seen: its result fits in the same test run only, unless
        ``template.watch`` names what it depends on.
        """
        changes = manifest.differences(self.root)
        if self._digests:
            file_digests.save(self._digests)
        same_run = self._test_run and manifest.test_run == self._test_run
        if manifest.programs and not self._watch and not same_run:
            programs = ", ".join(manifest.programs)
            changes.append(f"built with the help of {programs}, whose inputs are not known without template.watch")
        return changes

    def build(self, url: URL, *, mark: str = "") -> Manifest:
        """Do it all in the empty database at `url`; what was seen to be used.

        Args:
            url: The database.
            mark: The comment that roles and tablespaces get which are made; none where empty.

        Raises:
            ConfigurationError: Something that is named does not exist.
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
        )
        # All files are looked for before anything is done.
        declared = [path for part in self.parts for path in part.declared(self.root)]
        rest = self._of_project
        for part in self.parts[: len(self.parts) - len(rest)]:
            _run(part, target)
        if not rest:
            self._see_that_nothing_moved(declared)
            return Manifest()
        progress.begin_part(rest[0].label)
        manifest = self._interpreter(rest).run(target, declared)
        self._see_that_nothing_moved(declared)
        return replace(manifest, test_run=self._test_run) if manifest.programs else manifest

    def prepare(self) -> None:
        """Begin with what `build` would have to wait for, since it will be asked soon."""
        rest = self._of_project
        if rest and self._waiting is None:
            from elefast.migrators.sandbox.parent import BuildProcess

            self._waiting = BuildProcess(rest, self.root)

    def let_go(self) -> None:
        """Nobody will ask for `build` soon; safe to repeat."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.dismiss()

    def _interpreter(self, parts: Sequence[Step]) -> BuildProcess:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting.is_for(parts):
            return waiting
        if waiting is not None:
            waiting.dismiss()
        from elefast.migrators.sandbox.parent import BuildProcess

        return BuildProcess(parts, self.root)

    @property
    def _of_project(self) -> tuple[Step, ...]:
        """The parts from the first one on that runs code of the project."""
        return tuple(dropwhile(lambda part: not part.runs_project_code, self.parts))

    @staticmethod
    def _see_that_nothing_moved(declared: Sequence[Path]) -> None:
        """A file that was another one for a moment is the same again in the key, but not in the template."""
        moved = next((path for path in declared if file_digests.has_moved(path)), None)
        if moved is not None:
            raise MigrationError(f"{moved} changed while the template was built; run again.", code="files-changed")

    # -- a migrator ------------------------------------------------------------------------------------------

    def migrate(self, connection: Connection) -> None:
        """Do it all in the database of `connection`.

        The code runs in an interpreter of its own, on connections of its own; only where the database cannot
        be opened from there, it runs here, and what it changes in this process is put back.

        Raises:
            MigrationError: It failed, or it cannot be done on this connection.
        """
        from elefast.migrators.reopen import Unreachable, reopen

        try:
            url = reopen(connection)
        except Unreachable as reason:
            self._migrate_here(connection, str(reason))
        else:
            self.build(url)

    async def migrate_async(self, connection: AsyncConnection) -> None:
        """The same for an `AsyncConnection`; the event loop goes on meanwhile."""
        import asyncio

        from elefast.migrators.reopen import Unreachable, reopen

        try:
            url = await connection.run_sync(reopen)
        except Unreachable as reason:
            await connection.run_sync(self._migrate_here, str(reason))
        else:
            await asyncio.to_thread(self.build, url)

    def _migrate_here(self, connection: Connection, reason: str) -> None:
        from elefast.migrators.in_process import run_here

        for part in self.parts:
            run_here(part, connection, self.root, self._variables, reason)


def _run(part: Step, target: BuildTarget) -> None:
    progress.begin_part(part.label)
    try:
        part.run(target)
    except ElefastError:
        raise
    except Exception as error:
        from elefast.migrators.error_report import code_of, explain

        raise MigrationError(explain(part.label, error, target.root), code=code_of(error)) from error


def _extensions(names: Sequence[str]) -> Step:
    from elefast.migrators.extensions import Extensions

    return Extensions(tuple(names))


def _seed(seed: str) -> Step:
    if seed.endswith(".sql"):
        from elefast.migrators.sql import Sql

        return Sql((seed,), "seed")
    from elefast.migrators.callable import Function

    return Function(seed, "seed")


def _variables(written: Sequence[str], driver: str) -> dict[str, str]:
    exported = [ExportedVariable.parse(entry) for entry in written]
    return {variable.name: variable.template or f"postgresql+{driver}" for variable in exported}

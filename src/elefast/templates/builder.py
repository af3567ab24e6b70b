"""The story of a template: get it, find it or wait for the turn to build it, build, publish or fail, retire old ones.

A template is built in layers, each on a copy of the one below; what follows happens for one layer after the other.
Processes on the server take turns by an advisory lock for each key. `elefast.templates.store` has the SQL.
"""

from __future__ import annotations

import json
import logging
from asyncio import CancelledError
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast.errors import DatabaseNotReadyError, ElefastError, MigrationError
from elefast.postgres import advisory_locks, cluster_objects, contents, databases, driver_errors, keepalives, server
from elefast.postgres.cluster_objects import ClusterObject
from elefast.postgres.connections.maintenance_session import Connector, MaintenanceSession
from elefast.postgres.contents import TemplateContents
from elefast.postgres.names import Kind, Name
from elefast.postgres.row_security import RowSecurity, read_row_security
from elefast.postgres.sql import identifier
from elefast.runtime import progress
from elefast.templates import store
from elefast.templates.fingerprint import Input, Key
from elefast.templates.options import TemplateOptions
from elefast.templates.recipe import MIGRATED, Layer, Recipe, layers_of, scenarios_of
from elefast.templates.store import State, Template, use_lock

__all__ = ["TemplateBuilder"]

_BUILD_KINDS = (Kind.DRAFT, Kind.TEMPLATE, Kind.VOLATILE)
_CONNECT_TIMEOUT = 10

_log = logging.getLogger("elefast")

_CANCELLED = (
    "elefast was {} when this test was ended. The build was cancelled, and the next test begins it again.\n"
    "Build it before pytest with `elefast up` or, on an existing server, `elefast template build`."
)


class TemplateBuilder:
    """Finds or builds the templates of one recipe, one template for each encoding and each state.

    Args:
        session: The session on the server.
        recipe: The recipe of the templates.
        link_to: Makes a connector to a template while it is built; it takes ``settings``, and returns None where
            there is no way to connect.
        run: The owner of this process's databases; a failed build gets it as its owner.
        options: How templates are made and kept. All processes with the same ``test_run`` share a failed build.
        owned: Whether elefast started the server. Roles and tablespaces that a build makes there get a mark, and are
            dropped before the project's next build.
    """

    def __init__(
        self,
        session: MaintenanceSession,
        recipe: Recipe,
        *,
        link_to: Callable[..., Connector | None],
        run: str,
        options: TemplateOptions,
        owned: bool = False,
    ) -> None:
        self._session = session
        self._recipe = recipe
        self._link_to = link_to
        self._run = run
        self._options = options
        self._test_run = options.test_run or run
        self._owned = owned
        self._in_use: dict[tuple[str, str], Template] = {}
        """The templates of this process, by encoding and layer."""
        self._errors: dict[tuple[str, str], ElefastError] = {}
        self._replaced: set[tuple[str, str]] = set()
        """Encodings and layers of which this process has used more than one template."""
        self._volatile: set[str] = set()
        """The names of templates that end with the run, from before they exist."""
        self._used: list[Template] = []
        """What `take_used` returns."""
        self._noted: set[str] = set()
        """The names of all templates that were in `_used`."""

    # -- one template, from the question to the end of the run ------------------------------------------------

    def get(self, encoding: str, scenario: str = "") -> Template | None:
        """The template in `encoding`; the layers of it that do not fit are built. One caller at a time.

        Args:
            encoding: The encoding of the databases, such as ``utf8``.
            scenario: The scenario of its uppermost layer; empty for the state after migrator and seeds.

        Returns:
            The uppermost layer; None where the state has no layer, so that its databases are empty.

        Raises:
            ConfigurationError: There is no such scenario, or a file of it is missing.
            MigrationError: The build failed. Further calls raise it again without another build.
            DatabaseNotReadyError: The server does not answer, or has no free connection.
        """
        layers = layers_of(self._recipe, scenario)
        try:
            made = self._get_all(encoding, layers)
        except DBAPIError as error:
            if driver_errors.sqlstate(error) != "3D000":
                raise
            self.forget(encoding, scenario)  # the layer below was dropped from outside
            made = self._get_all(encoding, layers)
        fresh = [one for one in self._of(encoding, layers) if one.name not in self._noted]
        if fresh:
            self._noted.update(one.name for one in fresh)
            self._used += fresh
            if any(one.built and one.kept for one in fresh):
                self._retire(encoding)
        return made

    def _get_all(self, encoding: str, layers: Sequence[Layer]) -> Template | None:
        made: Template | None = None
        for layer in layers:
            made = self._get_layer(encoding, layer, made)
        return made

    def _get_layer(self, encoding: str, layer: Layer, base: Template | None) -> Template:
        place = encoding, layer.name
        if place in self._errors:
            raise self._errors[place].with_traceback(None)
        known = self._in_use.get(place)
        if known is not None and known.base == (base.name if base is not None else ""):
            return known
        try:
            found = self._find_or_build(encoding, layer, base)
        except DatabaseNotReadyError:
            raise  # not remembered, because the server may answer the next time
        except ElefastError as error:
            self._errors[place] = error
            raise
        self._session.call(advisory_locks.acquire_shared, use_lock(found.name))
        if known is not None:
            self._replaced.add(place)
        self._in_use[place] = found
        return found

    def _of(self, encoding: str, layers: Sequence[Layer]) -> list[Template]:
        return [self._in_use[encoding, layer.name] for layer in layers]

    def _find_or_build(self, encoding: str, layer: Layer, base: Template | None) -> Template:
        recipe, session = layer.recipe, self._session
        kept = not self._why_not_kept(layer, base)
        key = self._key(encoding, layer, base, kept)
        # The key of a layer has the name of its base. So where the base was just rebuilt, what is found is new as well.
        rebuild = self._options.rebuild and base is None
        found, _ = session.call(store.find, key, recipe, self._options.max_age)
        if found and not rebuild:
            return found
        with self._turn(key):
            # Another process may have built it in the meantime. With `rebuild`, only a template that was not there
            # before counts.
            again, stale = session.call(store.find, key, recipe, self._options.max_age)
            if again and (not rebuild or found is None or again.name != found.name):
                return again
            failed = session.call(store.failure, key, self._test_run)
            if failed is not None:
                text, code = failed
                raise MigrationError(text, code=code)
            with progress.show(_doing(layer), workers="all"):
                try:
                    return self._build(key, encoding, layer, base, kept, self._why(key, layer, base, stale))
                except BaseException as error:
                    # A plugin such as pytest-timeout ends a test with an error that does not mention the build.
                    if not isinstance(error, (Exception, KeyboardInterrupt, SystemExit, CancelledError)):
                        error.add_note(_CANCELLED.format(progress.describe()))
                    raise

    @contextmanager
    def _turn(self, key: Key) -> Generator[None]:
        """Hold the build lock of `key`; shows which process this one waits for."""
        lock = store.build_lock(store.owner_of(key))
        call = self._session.call
        if not call(advisory_locks.try_acquire, lock):
            holder = call(advisory_locks.holder, lock)
            _log.info("waiting for %s to build the template", holder)
            what = f"waiting for {holder or 'another session'} to build the template"
            # Not shown in workers: the worker that builds the template shows the build.
            with progress.show(what, workers="none"):
                call(advisory_locks.acquire, lock)
        try:
            yield
        finally:
            call(advisory_locks.release, lock)

    def _build(self, key: Key, encoding: str, layer: Layer, base: Template | None, kept: bool, reason: str) -> Template:
        """Build a draft and publish it, or record the failure."""
        session = self._session
        strategy = session.server_info.strategy(self._options.strategy)
        draft = store.draft_name(key)
        name = str(draft)
        if not kept:
            # Noted before the template exists, so that `close` drops it even after an interrupt during `publish`.
            self._volatile.add(str(draft._replace(kind=Kind.VOLATILE)))
        # A new connection has lost the build lock, so that another process may build the same template.
        connects = session.connection_count
        _log.info("building layer %s of the template (%s)", layer.name, reason)
        if self._owned:
            self._clear_cluster("" if layer.name == MIGRATED else layer.name)
        try:
            session.copy_database(store.draft, draft, encoding=encoding, strategy=strategy, base=base)
            if session.server_info.is_remote:
                session.call(keepalives.set_for_database, name)
            connects = session.connection_count
            before = session.call(cluster_objects.existing_objects)
            manifest = layer.recipe.build(
                session.url.set(database=name), mark=cluster_objects.mark_comment(name) if self._owned else ""
            )
            if self._key(encoding, layer, base, kept) != key:
                raise MigrationError(
                    "files that the template is made from changed while it was built; run again.", code="files-changed"
                )
            has, secured = self._polish(name)
            session.end_sessions(name)
            if session.connection_count != connects:
                raise _connection_lost()
            made = session.call(
                store.publish,
                draft,
                key,
                manifest,
                has,
                project=self._options.project,
                reason=reason,
                kept=kept,
                layer=layer.name,
                base=base.name if base is not None else "",
                facts=json.dumps({**json.loads(base.facts if base is not None else "{}"), **manifest.returned}),
                roles=self._options.roles,
                cluster=session.call(cluster_objects.existing_objects) - before,
                row_security=secured,
            )
        except DatabaseNotReadyError:
            raise  # the lock of the draft is free now, so the next sweep drops it
        except ElefastError as error:
            error = self._with_conflict(error)
            session.end_sessions(name, grace=0)
            if session.connection_count != connects:
                raise _connection_lost() from error  # not the migration's fault, so it is not recorded as a failure
            if driver_errors.no_connections_left(error):
                session.drop(name, grace=0)
                raise self._no_free_connection(error) from error
            self._drop_made_by_failed(draft, encoding, strategy)
            text = str(error)
            session.call(store.fail, draft, key, run=self._run, test_run=self._test_run, error=text, code=error.code)
            # The same error without its frames: a variable of one of them has the environment.
            raise driver_errors.strip_tracebacks(error)  # noqa: B904
        except BaseException:
            with suppress(Exception):  # the first error is the one to show, and the next sweep drops the draft
                session.drop(name, grace=0)
                self._drop_made_by(draft)
            raise
        return made

    def _polish(self, name: str) -> tuple[TemplateContents | None, RowSecurity]:
        """Prepare a built draft for its copies (see `store.polish`).

        Returns:
            What it contains, or None where that fails, and its tables with row-level security.
        """
        facts = self._session.server_info
        # A login trigger of the project must not write a row for this session into the template.
        silent = facts.superuser and facts.version >= server.LOGIN_TRIGGERS_VERSION
        make = self._link_to(name, settings=server.NO_EVENT_TRIGGERS if silent else "")
        secured = RowSecurity()
        if make is None:
            return None, secured
        # The session keeps the settings of the project's role: an index may call functions of the project.
        link = make(lambda connection: None)
        try:
            link.open(_CONNECT_TIMEOUT)
            secured = link.call(read_row_security)
            link.call(store.polish)
            return link.call(contents.read_contents), secured
        except Exception as error:
            _log.info("%s has no statistics: %s", name, driver_errors.driver_message(error))
            return None, secured
        finally:
            link.close()

    def _no_free_connection(self, error: ElefastError) -> DatabaseNotReadyError:
        holders = "\n  ".join(self._session.call(server.connection_holders))
        return DatabaseNotReadyError(f"{error}\nThe server's connections, {holders}", code="too-many-connections")

    def _retire(self, encoding: str) -> None:
        """Drop the project's oldest templates, as many as ``template.keep`` says."""
        session = self._session
        current, layers = self._current(encoding)
        # A lock does not exclude the session that holds it, so this process's own templates are excluded by name.
        current |= set(self.names)
        for old in session.call(store.retire, self._options.project, self._options.keep, current, layers):
            if session.call(store.drop_unused, old, use_lock(old)):
                store.drop_orphans(session)

    def _current(self, encoding: str) -> tuple[set[str], set[str]]:
        """The templates that the configuration uses, as far as they exist, and the names of its layers."""
        names: set[str] = set()
        layers: set[str] = set()
        for scenario in ("", *scenarios_of(self._recipe)):
            base: Template | None = None
            chain = layers_of(self._recipe, scenario)
            layers |= {layer.name for layer in chain}
            for layer in chain:
                with suppress(ElefastError):  # such as a missing file of a scenario that no test has asked for
                    key = self._key(encoding, layer, base, not self._why_not_kept(layer, base))
                    base, _ = self._session.call(store.find, key, layer.recipe, self._options.max_age)
                    if base is not None:
                        names.add(base.name)
                        continue
                break
        return names, layers

    def close(self) -> None:
        """Release the templates, and drop those of this run only, unless another process uses them."""
        for made in self._in_use.values():
            self._session.call(advisory_locks.release_shared, use_lock(made.name))
            parsed = Name.parse(made.name)
            if parsed is not None and parsed.kind is Kind.VOLATILE:
                self._volatile.add(made.name)
        for name in self._volatile:
            self._session.call(store.drop_unused, name, use_lock(name))
        self._in_use.clear()

    # -- the templates that this process uses -----------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of the templates that this process uses."""
        return [made.name for made in self._in_use.values()]

    def reusable_template(self, encoding: str, scenario: str = "") -> str:
        """The template of a state for which this process may leave spare databases; empty where there is none.

        That is a template which outlives the run, and from which all databases of this process were copied.
        """
        layers = layers_of(self._recipe, scenario)
        place = encoding, layers[-1].name if layers else ""
        made = self._in_use.get(place) if place not in self._replaced else None
        return made.name if made is not None and made.kept else ""

    def facts(self, encoding: str, scenario: str = "") -> str:
        """What seed functions returned for a state, as a JSON object; an empty one before `get` was called."""
        layers = layers_of(self._recipe, scenario)
        made = self._in_use.get((encoding, layers[-1].name)) if layers else None
        return made.facts if made is not None else "{}"

    def forget(self, encoding: str, scenario: str = "") -> None:
        """Find or build the template of a state again, because a layer of it was dropped from outside."""
        for layer in layers_of(self._recipe, scenario):
            self._in_use.pop((encoding, layer.name), None)
            self._replaced.add((encoding, layer.name))

    def take_used(self) -> list[Template]:
        """The layers that `get` has found or built since this was last called, the lowest first."""
        found, self._used = self._used, []
        return found

    def lock_on(self, connection: Connection) -> None:
        """Acquire the locks of the templates in use on `connection`, a new one of the session."""
        for made in self._in_use.values():
            advisory_locks.acquire_shared(connection, use_lock(made.name))

    # -- for the commands -------------------------------------------------------------------------------------

    def state(self, encoding: str, scenario: str = "") -> list[State]:
        """The result that `get` would have now for each layer, the lowest first; builds nothing.

        Args:
            encoding: The encoding of the databases.
            scenario: The scenario of the uppermost layer.

        Raises:
            ConfigurationError: There is no such scenario, or a file of it is missing.
        """
        states: list[State] = []
        base: Template | None = None
        for layer in layers_of(self._recipe, scenario):
            if states and base is None:
                inputs = tuple(layer.recipe.inputs() or ())
                below = f"built: layer {states[-1].layer} is built"
                states.append(State(layer.name, "", below, (), inputs, self._why_not_kept(layer, None)))
                continue
            why_not_kept = self._why_not_kept(layer, base)
            key = self._key(encoding, layer, base, kept=not why_not_kept)
            found, stale = self._session.call(store.find, key, layer.recipe, self._options.max_age)
            if found:
                states.append(
                    State(layer.name, found.name, found.reason, (), key.inputs, why_not_kept, found.row_security)
                )
            else:
                changes = tuple(self._changes(key, layer, stale))
                states.append(
                    State(layer.name, "", self._why(key, layer, base, stale), changes, key.inputs, why_not_kept)
                )
            base = found
        return states

    def drop_all(self, layer: str = "") -> list[str]:
        """Drop the project's templates that no process uses, with their spare databases; the names of all of them.

        Args:
            layer: Drop only templates of this layer, and those that were built on them.
        """
        found = self._session.call(store.of_project, self._options.project)
        doomed = found
        if layer:
            tops = [entry.text for entry in found if store.layer_of(entry) == layer]
            family = {entry.text for name in tops for entry in store.with_descendants(found, name)}
            doomed = [entry for entry in found if entry.text in family]
        ours = set(self.names)
        gone = [
            entry.text
            for entry in doomed
            if entry.text not in ours
            and self._session.call(store.drop_unused, entry.text, use_lock(entry.text), entry.oid)
        ]
        gone += store.drop_orphans(self._session)
        if self._owned and not layer:
            self._clear_cluster()
        return gone

    # -- keys, and reasons in words ---------------------------------------------------------------------------

    def _key(self, encoding: str, layer: Layer, base: Template | None, kept: bool) -> Key:
        facts = self._session.server_info
        inputs = [*(layer.recipe.inputs() or ()), Input.of("elefast's template format", str(store.FORMAT))]
        if base is None:
            inputs += [
                Input.of("PostgreSQL's version", str(facts.version // 10000)),
                Input.of("encoding and locale", encoding.lower(), facts.locale),
                Input.of("role", facts.role),
            ]
            if self._options.roles:
                # A migration may look whether a role exists.
                inputs.append(Input.of("roles of the server", *sorted(self._options.roles)))
        else:
            # The name of the base stands for all its inputs, and for what its build was seen to use.
            inputs += [Input.of(f"layer {base.layer}", base.name), Input.of("name of the layer", layer.name)]
        if not kept:
            inputs.append(Input.of("run", self._test_run, self._options.project))
        return Key.of(inputs)

    def _why_not_kept(self, layer: Layer, base: Template | None) -> str:
        """Why a layer must not outlive the run; empty where it may."""
        if not self._options.cache:
            return "template.cache is false"
        if base is not None and not base.kept:
            return f"layer {base.layer} is"
        return layer.recipe.why_not_kept()

    def _why(self, key: Key, layer: Layer, base: Template | None, stale: list[str]) -> str:
        """The reason for a build, for people to read."""
        if self._options.rebuild:
            return "built: asked for"
        if why := self._why_not_kept(layer, base):
            return f"built for this run: {why}"
        changes = self._changes(key, layer, stale)
        if not changes:
            return "built: there was none yet"
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        return f"built: {', '.join(changes[:3])}{more}"

    def _changes(self, key: Key, layer: Layer, stale: list[str]) -> list[str]:
        """What has changed since the project's newest template of a layer, in words."""
        earlier = self._session.call(store.newest, self._options.project, layer.name)
        return stale or (key.changes(earlier) if earlier else [])

    # -- roles and tablespaces that builds make on elefast's own servers --------------------------------------

    def _clear_cluster(self, layer: str = "") -> None:
        """Drop the roles and tablespaces that earlier builds of the project made, and those of builds that are gone.

        A template that was built with them is dropped first, because it is useless without them, and so are the layers
        on it. A template that is in use stays, with its roles and tablespaces.

        Args:
            layer: Only those that builds of this layer made; empty for all layers.
        """
        call = self._session.call
        # Marks are read before the list of databases: a build has its draft before it makes a role.
        found = call(cluster_objects.marked_objects)
        if not found:
            return
        existing = call(databases.own_databases, *_BUILD_KINDS)
        entries = {(entry.name.owner, entry.name.serial): entry for entry in existing}
        doomed: list[ClusterObject] = []
        for item in found:
            entry = entries.get((item.draft.owner, item.draft.serial))
            if entry is None:
                doomed.append(item)
            elif (
                entry.name.kind is Kind.DRAFT or entry.text in self.names or (layer and store.layer_of(entry) != layer)
            ):
                continue
            elif store.project_of(entry) == self._options.project and all(
                call(store.drop_unused, one.text, use_lock(one.text), one.oid)
                for one in store.with_descendants(existing, entry.text)
            ):
                del entries[item.draft.owner, item.draft.serial]
                doomed.append(item)
        if doomed:
            store.drop_orphans(self._session)
            self._drop_cluster_objects(doomed)

    def _drop_made_by_failed(self, draft: Name, encoding: str, strategy: str) -> None:
        """Drop the roles and tablespaces that a failed build made.

        The draft depends on them, so it is dropped as well. An empty one takes its place, to record the failure.
        """
        session = self._session
        if not self._owned or not any(item.draft == draft for item in session.call(cluster_objects.marked_objects)):
            return
        session.drop(str(draft), grace=0)
        self._drop_made_by(draft)
        session.copy_database(store.draft, draft, encoding=encoding, strategy=strategy)

    def _drop_made_by(self, draft: Name) -> None:
        """Drop the roles and tablespaces that the build of `draft` made; that database is gone already."""
        if self._owned:
            found = self._session.call(cluster_objects.marked_objects)
            self._drop_cluster_objects([item for item in found if item.draft == draft])

    def _drop_cluster_objects(self, doomed: list[ClusterObject]) -> None:
        for item in self._session.call(cluster_objects.drop_objects, doomed):
            _log.warning("%s %s stays on the server: other objects depend on it", item.kind, item.name)

    def _with_conflict(self, error: ElefastError) -> ElefastError:
        """`error`; with advice in its text where a role or tablespace that the build makes exists already."""
        found = cluster_objects.existing_object(str(error)) if isinstance(error, MigrationError) else None
        if found is None:
            return error
        kind, name = found
        if kind == "role" and name in self._options.roles:
            return MigrationError(f"{error}\n  {_declared(name)}", code="cluster-object-exists")
        users = self._session.call(cluster_objects.dependent_databases, kind, name)
        earlier = self._session.call(store.built_with, self._options.project, kind, name)
        origin = (
            f"and an earlier build of this project made it, for template {', '.join(earlier)}."
            if earlier
            else "so it may be another project's, or an earlier build made it."
        )
        more = [
            f'The {kind} "{name}" was on the server before this build. All databases of a server share its {kind}s, '
            f"{origin}",
            *([f"Databases that use it: {', '.join(users)}."] if users else []),
            "If it is not needed, remove it:",
            "    elefast template drop",
            f"    DROP {kind.upper()} {identifier(name)};    -- in any database of the server",
            "If other projects need it, let the migration make it only where it does not exist"
            + (f", and declare it with a table [tool.elefast.roles.{name}]." if kind == "role" else "."),
        ]
        text = "\n  ".join([str(error), *more])
        return MigrationError(text, code="cluster-object-exists")


def _declared(name: str) -> str:
    return (
        f'elefast has created the role "{name}" before the build, because of [tool.elefast.roles.{name}], and other '
        "builds need it.\n  Let the migration create it only where it does not exist: "
        f"DO $$ BEGIN CREATE ROLE {identifier(name)}; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )


def _connection_lost() -> DatabaseNotReadyError:
    return DatabaseNotReadyError(
        "the connection to the server was lost while the template was built. See the server's log, then run again.",
        code="connection-lost",
    )


def _doing(layer: Layer) -> str:
    return "building the template" if layer.name == MIGRATED else f"building layer {layer.name} of the template"

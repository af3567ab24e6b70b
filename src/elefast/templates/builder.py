"""The story of a template: get it, find it or wait for the turn to build it, build, publish or fail, retire old ones.

Processes on the server take turns by an advisory lock for each key. `elefast.templates.store` has the SQL.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection

from elefast.errors import DatabaseNotReadyError, ElefastError, MigrationError
from elefast.postgres import advisory_locks, cluster_objects, contents, databases, driver_errors, keepalives, server
from elefast.postgres.cluster_objects import ClusterObject
from elefast.postgres.connections.maintenance_session import Connector, MaintenanceSession
from elefast.postgres.contents import TemplateContents
from elefast.postgres.names import Kind, Name
from elefast.postgres.sql import identifier
from elefast.runtime import progress
from elefast.templates import store
from elefast.templates.fingerprint import Input, Key
from elefast.templates.options import TemplateOptions
from elefast.templates.recipe import Recipe
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
    """Finds or builds the templates of one recipe, one template for each encoding.

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
        self._in_use: dict[str, Template] = {}
        """The templates of this process, by encoding."""
        self._errors: dict[str, ElefastError] = {}
        self._replaced: set[str] = set()
        """Encodings of which this process has used more than one template."""
        self._volatile: set[str] = set()
        """The names of templates that end with the run, from before they exist."""

    # -- one template, from the question to the end of the run ------------------------------------------------

    def get(self, encoding: str) -> Template:
        """The template in `encoding`; it is built if there is none that fits. One caller at a time.

        Args:
            encoding: The encoding of the databases, such as ``utf8``.

        Raises:
            MigrationError: The build failed. Further calls raise it again without another build.
            DatabaseNotReadyError: The server does not answer, or has no free connection.
        """
        if encoding in self._errors:
            raise self._errors[encoding].with_traceback(None)
        if encoding not in self._in_use:
            try:
                found = self._find_or_build(encoding)
            except DatabaseNotReadyError:
                raise  # not remembered, because the server may answer the next time
            except ElefastError as error:
                self._errors[encoding] = error
                raise
            self._session.call(advisory_locks.acquire_shared, use_lock(found.name))
            self._in_use[encoding] = found
        return self._in_use[encoding]

    def _find_or_build(self, encoding: str) -> Template:
        recipe, session = self._recipe, self._session
        kept = self._options.cache and not recipe.why_not_kept()
        key = self._key(encoding, kept)
        found, _ = session.call(store.find, key, recipe, self._options.max_age)
        if found and not self._options.rebuild:
            return found
        with self._turn(key):
            # Another process may have built it in the meantime. With `rebuild`, only a template that was not there
            # before counts.
            again, stale = session.call(store.find, key, recipe, self._options.max_age)
            if again and (not self._options.rebuild or found is None or again.name != found.name):
                return again
            failed = session.call(store.failure, key, self._test_run)
            if failed is not None:
                text, code = failed
                raise MigrationError(text, code=code)
            with progress.show("building the template", workers="all"):
                try:
                    return self._build(key, encoding, kept, self._why(key, stale))
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

    def _build(self, key: Key, encoding: str, kept: bool, reason: str) -> Template:
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
        _log.info("building a template (%s)", reason)
        if self._owned:
            self._clear_cluster()
        try:
            session.copy_database(store.draft, draft, encoding=encoding, strategy=strategy)
            if session.server_info.is_remote:
                session.call(keepalives.set_for_database, name)
            connects = session.connection_count
            manifest = self._recipe.build(
                session.url.set(database=name), mark=cluster_objects.mark_comment(name) if self._owned else ""
            )
            if self._key(encoding, kept) != key:
                raise MigrationError(
                    "files that the template is made from changed while it was built; run again.", code="files-changed"
                )
            has = self._polish(name)
            session.end_sessions(name)
            if session.connection_count != connects:
                raise _connection_lost()
            made = session.call(
                store.publish, draft, key, manifest, has, project=self._options.project, reason=reason, kept=kept
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
        if kept:
            self._retire()
        return made

    def _polish(self, name: str) -> TemplateContents | None:
        """Prepare a built draft for its copies (see `store.polish`); what it contains, or None where that fails."""
        facts = self._session.server_info
        # A login trigger of the project must not write a row for this session into the template.
        silent = facts.superuser and facts.version >= server.LOGIN_TRIGGERS_VERSION
        make = self._link_to(name, settings=server.NO_EVENT_TRIGGERS if silent else "")
        if make is None:
            return None
        # The session keeps the settings of the project's role: an index may call functions of the project.
        link = make(lambda connection: None)
        try:
            link.open(_CONNECT_TIMEOUT)
            link.call(store.polish)
            return link.call(contents.read_contents)
        except Exception as error:
            _log.info("%s has no statistics: %s", name, driver_errors.driver_message(error))
            return None
        finally:
            link.close()

    def _no_free_connection(self, error: ElefastError) -> DatabaseNotReadyError:
        holders = "\n  ".join(self._session.call(server.connection_holders))
        return DatabaseNotReadyError(f"{error}\nThe server's connections, {holders}", code="too-many-connections")

    def _retire(self) -> None:
        """Drop the project's oldest templates, as many as ``template.keep`` says."""
        session = self._session
        # A lock does not exclude the session that holds it, so this process's own templates are excluded by name.
        for old in set(session.call(store.retire, self._options.project, self._options.keep)) - set(self.names):
            if session.call(store.drop_unused, old, use_lock(old)):
                store.drop_orphans(session)

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

    def reusable_template(self, encoding: str) -> str:
        """The template in `encoding` for which this process may leave spare databases; empty where there is none.

        That is a template which outlives the run, and from which all databases of this process were copied.
        """
        made = self._in_use.get(encoding) if encoding not in self._replaced else None
        parsed = Name.parse(made.name) if made is not None else None
        return str(parsed) if parsed is not None and parsed.kind is Kind.TEMPLATE else ""

    def forget(self, encoding: str) -> None:
        """Find or build the template in `encoding` again, because it was dropped from outside."""
        self._in_use.pop(encoding, None)
        self._replaced.add(encoding)

    def lock_on(self, connection: Connection) -> None:
        """Acquire the locks of the templates in use on `connection`, a new one of the session."""
        for made in self._in_use.values():
            advisory_locks.acquire_shared(connection, use_lock(made.name))

    # -- for the commands -------------------------------------------------------------------------------------

    def state(self, encoding: str) -> State:
        """The result that `get` would have now; builds nothing.

        Args:
            encoding: The encoding of the databases.
        """
        why_not_kept = "template.cache is false" if not self._options.cache else self._recipe.why_not_kept()
        key = self._key(encoding, kept=not why_not_kept)
        found, stale = self._session.call(store.find, key, self._recipe, self._options.max_age)
        if found:
            return State(found.name, found.reason, (), key.inputs, why_not_kept)
        return State("", self._why(key, stale), tuple(self._changes(key, stale)), key.inputs, why_not_kept)

    def drop_all(self) -> list[str]:
        """Drop the project's templates that no process uses, with their spare databases; the names of all of them."""
        found = self._session.call(store.of_project, self._options.project)
        ours = set(self.names)
        gone = [
            entry.text
            for entry in found
            if entry.text not in ours
            and self._session.call(store.drop_unused, entry.text, use_lock(entry.text), entry.oid)
        ]
        gone += store.drop_orphans(self._session)
        if self._owned:
            self._clear_cluster()
        return gone

    # -- keys, and reasons in words ---------------------------------------------------------------------------

    def _key(self, encoding: str, kept: bool) -> Key:
        facts = self._session.server_info
        inputs = [
            *(self._recipe.inputs() or ()),
            Input.of("PostgreSQL's version", str(facts.version // 10000)),
            Input.of("encoding and locale", encoding.lower(), facts.locale),
            Input.of("role", facts.role),
            Input.of("elefast's template format", str(store.FORMAT)),
        ]
        if not kept:
            inputs.append(Input.of("run", self._test_run, self._options.project))
        return Key.of(inputs)

    def _why(self, key: Key, stale: list[str]) -> str:
        """The reason for a build, for people to read."""
        if self._options.rebuild:
            return "built: asked for"
        if not self._options.cache:
            return "built for this run: template.cache is false"
        if why := self._recipe.why_not_kept():
            return f"built for this run: {why}"
        changes = self._changes(key, stale)
        if not changes:
            return "built: there was none yet"
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        return f"built: {', '.join(changes[:3])}{more}"

    def _changes(self, key: Key, stale: list[str]) -> list[str]:
        """What has changed since the project's newest template, in words."""
        earlier = self._session.call(store.newest, self._options.project)
        return stale or (key.changes(earlier) if earlier else [])

    # -- roles and tablespaces that builds make on elefast's own servers --------------------------------------

    def _clear_cluster(self) -> None:
        """Drop the roles and tablespaces that earlier builds of the project made, and those of builds that are gone.

        A template that was built with them is dropped first, because it is useless without them. A template that is
        in use stays, with its roles and tablespaces.
        """
        call = self._session.call
        # Marks are read before the list of databases: a build has its draft before it makes a role.
        found = call(cluster_objects.marked_objects)
        if not found:
            return
        entries = {
            (entry.name.owner, entry.name.serial): entry for entry in call(databases.own_databases, *_BUILD_KINDS)
        }
        doomed: list[ClusterObject] = []
        for item in found:
            entry = entries.get((item.draft.owner, item.draft.serial))
            if entry is None:
                doomed.append(item)
            elif entry.name.kind is Kind.DRAFT or entry.text in self.names:
                continue
            elif store.project_of(entry) == self._options.project and (
                call(store.drop_unused, entry.text, use_lock(entry.text), entry.oid)
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
        users = self._session.call(cluster_objects.dependent_databases, kind, name)
        more = [
            f'The {kind} "{name}" was on the server before this build. All databases of a server share its {kind}s, so '
            f"it may be another project's, or an earlier build made it.",
            *([f"Databases that use it: {', '.join(users)}."] if users else []),
            "If it is not needed, remove it:",
            "    elefast template drop",
            f"    DROP {kind.upper()} {identifier(name)};    -- in any database of the server",
            "If other projects need it, let the migration make it only where it does not exist.",
        ]
        text = "\n  ".join([str(error), *more])
        return MigrationError(text, code="cluster-object-exists")


def _connection_lost() -> DatabaseNotReadyError:
    return DatabaseNotReadyError(
        "the connection to the server was lost while the template was built. See the server's log, then run again.",
        code="connection-lost",
    )

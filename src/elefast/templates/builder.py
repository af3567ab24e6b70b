"""The template that a process clones its databases from: found, or built by whoever comes first.

It takes turns with all processes on the server by an advisory lock; `elefast.templates.store` has the steps.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast.errors import DatabaseNotReadyError, ElefastError, MigrationError
from elefast.postgres import (
    advisory_locks,
    cluster_objects,
    contents,
    databases,
    driver_errors,
    keepalives,
    server,
    spares,
)
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

__all__ = ["TemplateBuilder", "drop_orphans", "drop_unused"]

_BUILT = (Kind.DRAFT, Kind.TEMPLATE, Kind.VOLATILE)

_log = logging.getLogger("elefast")

_CANCELLED = (
    "elefast was {} when this test was ended. The build was cancelled, and the next test begins it again.\n"
    "Build it before pytest with `elefast up` or, on an existing server, `elefast template build`."
)


class TemplateBuilder:
    """The templates of one recipe, one for each encoding.

    Args:
        session: The server.
        recipe: What they are made from.
        link_to: How to connect to a template while it is built, with ``settings``; None where there is no way.
        run: This process, as the owner of a failed build.
        options: How templates are made and kept; all processes of its ``test_run`` share one failed build.
        owned: Whether elefast started the server. Roles and tablespaces that a build makes there get a mark, and go
            before the project's next build.
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
        self._ready: dict[str, Template] = {}
        self._errors: dict[str, ElefastError] = {}
        self._replaced: set[str] = set()
        self._passing: set[str] = set()
        """The names of those that are to go with the run, whether they are there yet or not."""

    def get(self, encoding: str) -> Template:
        """The template in `encoding`; built if there is none that fits. One caller at a time.

        Raises:
            MigrationError: It could not be built; raised again without another try from then on.
        """
        if encoding in self._errors:
            raise self._errors[encoding].with_traceback(None)
        if encoding not in self._ready:
            try:
                found = self._find_or_build(encoding)
            except DatabaseNotReadyError:
                raise  # another time the server may be well
            except ElefastError as error:
                self._errors[encoding] = error
                raise
            self._session.call(advisory_locks.acquire_shared, use_lock(found.name))
            self._ready[encoding] = found
        return self._ready[encoding]

    def state(self, encoding: str) -> State:
        """What `get` would do; builds nothing."""
        why_not_kept = "template.cache is false" if not self._options.cache else self._recipe.why_not_kept()
        key = self._key(encoding, kept=not why_not_kept)
        found, stale = self._session.call(store.find, key, self._recipe, self._options.max_age)
        if found:
            return State(found.name, found.reason, (), key.inputs, why_not_kept)
        return State("", self._why(key, stale), tuple(self._changes(key, stale)), key.inputs, why_not_kept)

    def drop_all(self) -> list[str]:
        """Drop the project's templates that nobody uses, with what waits for them; their names."""
        found = self._session.call(store.of_project, self._options.project)
        ours = set(self.names)
        gone = [
            entry.text
            for entry in found
            if entry.text not in ours and self._session.call(drop_unused, entry.text, use_lock(entry.text), entry.oid)
        ]
        gone += drop_orphans(self._session)
        if self._owned:
            self._clear_cluster()
        return gone

    @property
    def names(self) -> list[str]:
        """Those that this process uses."""
        return [made.name for made in self._ready.values()]

    def kept(self, encoding: str) -> str:
        """The name of the template in `encoding` that all databases of this process are copies of; else empty.

        Only of one that outlives the run: it is asked for, for the sake of the next.
        """
        made = self._ready.get(encoding) if encoding not in self._replaced else None
        parsed = Name.parse(made.name) if made is not None else None
        return str(parsed) if parsed is not None and parsed.kind is Kind.TEMPLATE else ""

    def forget(self, encoding: str) -> None:
        """Look for the template again next time: somebody dropped it."""
        self._ready.pop(encoding, None)
        self._replaced.add(encoding)

    def hold(self, connection: Connection) -> None:
        """Say on a new connection what this process uses."""
        for made in self._ready.values():
            advisory_locks.acquire_shared(connection, use_lock(made.name))

    def let_go(self) -> None:
        """Stop using them, and drop those that were for this run only if nobody else uses them."""
        for made in self._ready.values():
            self._session.call(advisory_locks.release_shared, use_lock(made.name))
            parsed = Name.parse(made.name)
            if parsed is not None and parsed.kind is Kind.VOLATILE:
                self._passing.add(made.name)
        for name in self._passing:
            self._session.call(drop_unused, name, use_lock(name))
        self._ready.clear()

    def _find_or_build(self, encoding: str) -> Template:
        recipe, session = self._recipe, self._session
        kept = self._options.cache and not recipe.why_not_kept()
        key = self._key(encoding, kept)
        found, _ = session.call(store.find, key, recipe, self._options.max_age)
        if found and not self._options.rebuild:
            return found
        with self._turn(key):
            again, stale = session.call(store.find, key, recipe, self._options.max_age)
            # Somebody built it while we waited for our turn; with `rebuild` it must be newer than our asking.
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
                    # A test that is ended for taking too long, as pytest-timeout does, fails with no word of a build.
                    if not isinstance(error, (Exception, KeyboardInterrupt, SystemExit, CancelledError)):
                        error.add_note(_CANCELLED.format(progress.describe()))
                    raise

    def _build(self, key: Key, encoding: str, kept: bool, reason: str) -> Template:
        session = self._session
        strategy = session.server_info.strategy(self._options.strategy)
        # Known before there is anything of that name, so that it can be dropped whenever we are interrupted.
        drafted = store.draft_name(key)
        name = str(drafted)
        if not kept:
            self._passing.add(str(drafted._replace(kind=Kind.VOLATILE)))
        turn = session.connection_count
        _log.info("building a template (%s)", reason)
        if self._owned:
            self._clear_cluster()
        try:
            session.copy_database(store.draft, drafted, encoding=encoding, strategy=strategy)
            if session.server_info.is_remote:
                session.call(keepalives.set_for_database, name)
            turn = session.connection_count
            manifest = self._recipe.build(
                session.url.set(database=name), mark=cluster_objects.mark_comment(name) if self._owned else ""
            )
            if self._key(encoding, kept) != key:
                raise MigrationError(
                    "files that the template is made from changed while it was built; run again.", code="files-changed"
                )
            has = self._polish(name)
            session.end_sessions(name)
            if session.connection_count != turn:
                raise _lost()
            made = session.call(
                store.publish, drafted, key, manifest, has, project=self._options.project, reason=reason, kept=kept
            )
        except DatabaseNotReadyError:
            raise  # nobody holds the draft any more, so the next sweep takes it
        except ElefastError as error:
            error = self._with_conflict(error)
            text = str(error)
            session.end_sessions(name, grace=0)
            if session.connection_count != turn:
                raise _lost() from error  # no fault of the migration, and not to be remembered as one
            if driver_errors.no_connections_left(error):
                session.drop(name, grace=0)
                who = "\n  ".join(session.call(server.connection_holders))
                raise DatabaseNotReadyError(
                    f"{text}\nThe server's connections, {who}", code="too-many-connections"
                ) from error
            self._take_back(drafted, encoding, strategy)
            session.call(store.fail, drafted, key, run=self._run, test_run=self._test_run, error=text, code=error.code)
            raise driver_errors.strip_tracebacks(error)  # noqa: B904  it is the same; what ran it had the environment in a variable
        except BaseException:
            with suppress(Exception):  # what brought us here is the one to see, and the next sweep takes the draft
                session.drop(name, grace=0)
                self._remove_made_by(drafted)
            raise
        if kept:
            # A lock does not keep out the session that has it, so our own are left out by name.
            for old in set(session.call(store.retire, self._options.project, self._options.keep)) - set(self.names):
                if session.call(drop_unused, old, use_lock(old)):
                    drop_orphans(session)
        return made

    def _clear_cluster(self) -> None:
        """Remove the roles and tablespaces that earlier builds of the project made, or builds that left nothing else.

        A template that was built with them goes first: it would be of no use without them. One that is in use stays,
        and so do its roles.
        """
        call = self._session.call
        # In this order: whatever makes something has its draft before.
        found = call(cluster_objects.marked_objects)
        if not found:
            return
        entries = {(entry.name.owner, entry.name.serial): entry for entry in call(databases.own_databases, *_BUILT)}
        doomed: list[ClusterObject] = []
        for item in found:
            entry = entries.get((item.draft.owner, item.draft.serial))
            if entry is None:
                doomed.append(item)
            elif entry.name.kind is Kind.DRAFT or entry.text in self.names:
                continue
            elif store.project_of(entry) == self._options.project and (
                call(drop_unused, entry.text, use_lock(entry.text), entry.oid)
            ):
                del entries[item.draft.owner, item.draft.serial]
                doomed.append(item)
        if doomed:
            drop_orphans(self._session)
            self._remove(doomed)

    def _remove_made_by(self, drafted: Name) -> None:
        """Remove what the build of `drafted` made in the cluster, once that database is gone."""
        if self._owned:
            found = self._session.call(cluster_objects.marked_objects)
            self._remove([item for item in found if item.draft == drafted])

    def _remove(self, doomed: list[ClusterObject]) -> None:
        for item in self._session.call(cluster_objects.drop_objects, doomed):
            _log.warning("%s %s stays on the server: something depends on it", item.kind, item.name)

    def _take_back(self, drafted: Name, encoding: str, strategy: str) -> None:
        """Remove what a failed build made in the cluster; an empty draft takes the place of the one that used it."""
        session = self._session
        if not self._owned or not any(item.draft == drafted for item in session.call(cluster_objects.marked_objects)):
            return
        session.drop(str(drafted), grace=0)
        self._remove_made_by(drafted)
        session.copy_database(store.draft, drafted, encoding=encoding, strategy=strategy)

    def _with_conflict(self, error: ElefastError) -> ElefastError:
        """`error`, with what is in the way where a role or tablespace that it wants to make exists already."""
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

    def _polish(self, name: str) -> TemplateContents | None:
        """Do what is left to do for its copies, and say what it has in it; None where we cannot look."""
        server_info = self._session.server_info
        # A login trigger that writes would put a row of our own session into the template.
        silent = server_info.superuser and server_info.version >= server.LOGIN_TRIGGERS_VERSION
        make = self._link_to(name, settings=server.NO_EVENT_TRIGGERS if silent else "")
        if make is None:
            return None
        # As the project's own role has it set up: an index may call functions of the project.
        link = make(lambda connection: None)
        try:
            link.open(10)
            link.call(store.polish)
            return link.call(contents.read_contents)
        except Exception as error:
            _log.info("%s has no statistics: %s", name, driver_errors.driver_message(error))
            return None
        finally:
            link.close()

    def _key(self, encoding: str, kept: bool) -> Key:
        server_info = self._session.server_info
        inputs = [
            *(self._recipe.inputs() or ()),
            Input.of("PostgreSQL's version", str(server_info.version // 10000)),
            Input.of("encoding and locale", encoding.lower(), server_info.locale),
            Input.of("role", server_info.role),
            Input.of("elefast's template format", str(store.FORMAT)),
        ]
        if not kept:
            inputs.append(Input.of("run", self._test_run, self._options.project))
        return Key.of(inputs)

    def _why(self, key: Key, stale: list[str]) -> str:
        """Why a template is built, in words."""
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
        """What has changed since the newest template of the project."""
        earlier = self._session.call(store.newest, self._options.project)
        return stale or (key.changes(earlier) if earlier else [])

    @contextmanager
    def _turn(self, key: Key) -> Generator[None]:
        """Hold the lock of `key`, whoever else wants to build it, and say whom we wait for."""
        lock = store.build_lock(store.owner_of(key))
        call = self._session.call
        if not call(advisory_locks.try_acquire, lock):
            holder = call(advisory_locks.holder, lock)
            _log.info("waiting for %s to build the template", holder)
            # The worker that builds it shows the build.
            what = f"waiting for {holder or 'another session'} to build the template"
            with progress.show(what, workers="none"):
                call(advisory_locks.acquire, lock)
        try:
            yield
        finally:
            call(advisory_locks.release, lock)


def _lost() -> DatabaseNotReadyError:
    return DatabaseNotReadyError(
        "the connection to the server was lost while the template was built. See the server's log, then run again.",
        code="connection-lost",
    )


def drop_orphans(session: MaintenanceSession) -> list[str]:
    """Drop the databases that wait for a template which is no more; their names."""
    found = session.call(databases.own_databases)
    return [
        e.text for e in spares.orphaned(found) if session.call(drop_unused, e.text, spares.lock_name(e.name), e.oid)
    ]


def drop_unused(connection: Connection, name: str, lock: str, oid: int = 0) -> bool:
    """Drop database `name` if nobody holds `lock`, and nobody is connected to it; say whether it went.

    Another one of that name than the one with `oid` stays.
    """
    if not advisory_locks.try_acquire(connection, lock):
        return False
    try:
        return databases.drop(connection, name, oid=oid)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        _log.info("left %s to a later sweep: %s", name, driver_errors.driver_message(error))
        return False
    finally:
        advisory_locks.release(connection, lock)

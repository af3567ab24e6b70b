"""The templates on a server, as single SQL steps: find, draft, publish, fail, retire, drop.

    find ──► hit: clone it
      │ miss
      ▼
    (lock of the key) ─► find again ─► create draft ─► build ─► publish = seal, comment, RENAME
                                                         └─► fail  = comment with the error, RENAME

A draft of a layer is a copy of the layer below it, and its key has the name of that database.
A draft has a private name, and the rename to the public one is the last step. So a template that is found is
complete, and a builder that is killed leaves only a draft, which no process uses.
The caller holds the lock of the key from `find again` to the end.
The comment on each database is a JSON record of its key, its inputs, its manifest and its base.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from elefast.postgres import advisory_locks, database_properties, databases, driver_errors, spares
from elefast.postgres.connections.maintenance_session import MaintenanceSession
from elefast.postgres.contents import FIRST_NORMAL_OID, TemplateContents
from elefast.postgres.databases import OwnDatabase
from elefast.postgres.names import OWNER_LENGTH, Kind, Name, new_serial
from elefast.postgres.row_security import RowSecurity
from elefast.postgres.sql import execute, rows, scalar
from elefast.runtime.hashing import short_digest
from elefast.runtime.text import local_time
from elefast.templates.fingerprint import Input, Key
from elefast.templates.manifest import Manifest
from elefast.templates.recipe import Recipe

__all__ = [
    "State",
    "Template",
    "build_lock",
    "built_with",
    "draft",
    "draft_name",
    "drop_orphans",
    "drop_unused",
    "fail",
    "failure",
    "find",
    "layer_of",
    "newest",
    "of_project",
    "owner_of",
    "polish",
    "project_of",
    "publish",
    "retire",
    "roles_of",
    "use_lock",
    "with_descendants",
]

FORMAT = 6
"""The format of the records. It is part of every key, so that each version of elefast finds its own templates."""

_log = logging.getLogger("elefast")


class Template(NamedTuple):
    """A complete template, which databases can be copied from.

    Args:
        name: The name of the database.
        replay: Statements to run for each copy, for properties that a copy does not get from its template; see
            `elefast.postgres.database_properties`.
        contents: The tables and rows in it; None where they could not be read.
        reason: Why it was built, or when, if it was found; for people to read.
        built: Whether this process built it.
        layer: The name of its layer.
        base: The database that it was copied from; empty for the lowest layer.
        facts: What seed functions of this layer and of those below returned, as a JSON object.
        row_security: Its tables with row-level security.
    """

    name: str
    replay: tuple[str, ...]
    contents: TemplateContents | None
    reason: str
    built: bool
    layer: str = ""
    base: str = ""
    facts: str = "{}"
    row_security: RowSecurity = RowSecurity()

    @property
    def kept(self) -> bool:
        """Whether it outlives the run."""
        parsed = Name.parse(self.name)
        return parsed is not None and parsed.kind is Kind.TEMPLATE


class State(NamedTuple):
    """Whether a run that starts now would find a layer of its template, or build it.

    Args:
        layer: The name of the layer.
        name: The database that would be used; empty where one would be built.
        reason: When it was built, or why one would be built.
        changes: What differs from the project's newest one of this layer, in words; empty where nothing does.
        inputs: The inputs of the key.
        why_not_kept: Why the template would not outlive the run; empty where it would.
        row_security: The tables of the template with row-level security; none where one would be built.
    """

    layer: str
    name: str
    reason: str
    changes: tuple[str, ...]
    inputs: tuple[Input, ...]
    why_not_kept: str
    row_security: RowSecurity = RowSecurity()


def owner_of(key: Key) -> str:
    """The owner part of the names of all templates with `key`."""
    return short_digest(key.digest, OWNER_LENGTH)


def find(connection: Connection, key: Key, recipe: Recipe, max_age: float = 0) -> tuple[Template | None, list[str]]:
    """The newest template of `key` whose manifest matches the current files and environment.

    There may be several templates of one key: after a switch back to a branch, its old template fits again.

    Args:
        connection: To the maintenance database.
        key: The declared inputs.
        recipe: Compares a manifest with the files and the environment.
        max_age: Seconds after which a template does not fit any more; 0 for no limit.

    Returns:
        The template; or None, and what has changed since the newest one of that key, in words.
    """
    stale: list[str] = []
    for entry in reversed(databases.own_databases(connection, Kind.TEMPLATE, Kind.VOLATILE, owner=owner_of(key))):
        record = _read(entry)
        # The name has 60 bits of the key, the record all of them. A record also shows that the template is complete.
        if not entry.sealed or entry.invalid or record.get("key") != key.digest:
            continue
        changes = _aged(record, max_age) or recipe.still_fits(Manifest.from_json(record["manifest"]))
        if not changes:
            reason = f"reused, built {local_time(str(record.get('built', 'earlier')))}"
            contents = None if record["contents"] is None else TemplateContents.from_json(record["contents"])
            return (
                Template(
                    entry.text,
                    tuple(record["replay"]),
                    contents,
                    reason,
                    built=False,
                    layer=layer_of(entry),
                    base=_base_of(entry),
                    facts=str(record.get("facts", "{}")),
                    row_security=RowSecurity.from_json(record.get("row_security")),
                ),
                [],
            )
        stale = stale or changes
    return None, stale


def _aged(record: dict[str, Any], max_age: float) -> list[str]:
    """A sentence for a template that is too old; empty for any other."""
    if not max_age:
        return []
    age = datetime.now(UTC) - datetime.fromisoformat(record["built"])
    if age.total_seconds() < max_age:
        return []
    return [f"the last one is older than template.max_age ({str(age).partition('.')[0]})"]


def newest(connection: Connection, project: str, layer: str) -> list[Input]:
    """The inputs of the project's newest template of a layer; empty where there is none."""
    for entry in reversed(of_project(connection, project)):
        if layer_of(entry) == layer:
            return [Input(label, value) for label, value in _read(entry).get("inputs", [])]
    return []


def draft_name(key: Key) -> Name:
    """A new name for the draft of a template of `key`."""
    return Name("elefast", Kind.DRAFT, owner_of(key), new_serial())


def draft(connection: Connection, name: Name, *, encoding: str, strategy: str, base: Template | None = None) -> None:
    """Create the database that a template is built in: empty, or a copy of the layer below."""
    # After a lost connection this runs again, and the first attempt may have succeeded.
    if not databases.exists(connection, str(name)):
        if base is None:
            databases.create(connection, name, encoding=encoding, strategy=strategy)
        else:
            databases.clone(connection, name, template=base.name, strategy=strategy)
    for statement in database_properties.statements_for(base.replay, str(name)) if base is not None else ():
        execute(connection, statement)


def polish(connection: Connection) -> None:
    """Prepare a draft for its copies: collect statistics, and create the cache file of its catalogs.

    PostgreSQL writes the cache file (``pg_internal.init``) at the first connection to a database.
    Tables are vacuumed if the role is a superuser, whose databases are reset. Then the planner knows which ones are
    empty and which pages all transactions see, as it does after a reset. Otherwise a reset would have to change those
    figures by an UPDATE. That moves rows of ``pg_class``, so that a list of tables without ORDER BY would change its
    order.

    Args:
        connection: To the draft itself, in autocommit mode.
    """
    found = rows(
        connection,
        f"""
        select format('%I.%I', n.nspname, c.relname), pg_relation_size(c.oid) > 0,
               (select rolsuper from pg_roles where rolname = current_user)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'm') and c.oid >= {FIRST_NORMAL_OID} and pg_has_role(c.relowner, 'usage')
        """,
    )
    # From 18 on, VACUUM of a table includes those that inherit from it.
    only = "ONLY " if int(scalar(connection, "show server_version_num")) >= 180000 else ""
    if filled := [name for name, has_rows, _ in found if has_rows]:
        execute(connection, f"ANALYZE {', '.join(filled)}")
    if reset := [name for name, _, is_superuser in found if is_superuser]:
        execute(connection, f"VACUUM {', '.join(only + name for name in reset)}")


def publish(
    connection: Connection,
    drafted: Name,
    key: Key,
    manifest: Manifest,
    contents: TemplateContents | None,
    *,
    project: str,
    reason: str,
    kept: bool,
    layer: str = "",
    base: str = "",
    facts: str = "{}",
    roles: Sequence[str] = (),
    cluster: Collection[tuple[str, str]] = (),
    row_security: RowSecurity | None = None,
) -> Template:
    """Seal a draft, and rename it to a template that `find` sees. No session may be connected to it.

    Args:
        connection: To the maintenance database.
        drafted: The draft, completely built.
        key: The declared inputs.
        manifest: What the build was seen to use.
        contents: The tables and rows in it; None where they could not be read.
        project: The project that it belongs to.
        reason: Why it was built.
        kept: Whether it outlives the run.
        layer: The name of its layer.
        base: The database that it was copied from; empty for the lowest layer.
        facts: What seed functions of this layer and of those below returned, as a JSON object.
        roles: The roles that it may refer to, so that they stay as long as it does.
        cluster: The kind and name of roles and tablespaces that its build has created.
        row_security: Its tables with row-level security; None for none.
    """
    secured = row_security or RowSecurity()
    final = Name("elefast", Kind.TEMPLATE if kept else Kind.VOLATILE, drafted.owner, drafted.serial)
    # After a lost connection this runs again, and the first attempt may have got to its last step.
    done = databases.exists(connection, str(final))
    name = str(final if done else drafted)
    recorded = database_properties.read_properties(connection, name)
    if not done:
        databases.seal(connection, name)
        record = {
            "elefast": FORMAT,
            "key": key.digest,
            "project": project,
            "layer": layer,
            "base": base,
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "reason": reason,
            "replay": recorded,
            "contents": contents.to_json() if contents is not None else None,
            "inputs": [[item.label, item.digest] for item in key.inputs],
            "manifest": manifest.to_json(),
            "roles": list(roles),
            "cluster": sorted(map(list, cluster)),
            "row_security": secured.to_json(),
        }
        if facts != "{}":
            record["facts"] = facts
        databases.comment(connection, name, _dump(record))
        databases.rename(connection, name, final)
    return Template(
        str(final),
        tuple(recorded),
        contents,
        reason,
        built=True,
        layer=layer,
        base=base,
        facts=facts,
        row_security=secured,
    )


def fail(connection: Connection, drafted: Name, key: Key, *, run: str, test_run: str, error: str, code: str) -> None:
    """Rename a draft to a failed build that has the error, so that other workers of the test run do not try again.

    Args:
        connection: To the maintenance database.
        drafted: The draft.
        key: The declared inputs.
        run: The owner of the failed build. It is dropped at the end of that run.
        test_run: The test run whose processes share the failure.
        error: The text of the error.
        code: The code of the error.
    """
    if not databases.exists(connection, str(drafted)):
        return  # after a lost connection: the first attempt has succeeded
    record = {"elefast": FORMAT, "key": key.digest, "test_run": test_run, "error": error, "code": code}
    databases.comment(connection, str(drafted), _dump(record))
    databases.rename(connection, str(drafted), Name("elefast", Kind.FAILED, run, new_serial()))


def failure(connection: Connection, key: Key, test_run: str) -> tuple[str, str] | None:
    """The error of a failed build of `key` in this test run, and its code; None where no build failed."""
    for entry in databases.own_databases(connection, Kind.FAILED):
        record = _read(entry)
        if record.get("key") == key.digest and record.get("test_run") == test_run:
            return str(record["error"]), str(record.get("code", "migration-failed"))
    return None


def retire(
    connection: Connection, project: str, keep: int, current: Collection[str], layers: Collection[str]
) -> list[str]:
    """The names of the project's templates to drop, so that `keep` older ones of each layer stay.

    A template whose base is dropped is dropped as well, because no run would find it again.

    Args:
        connection: To the maintenance database.
        project: The project.
        keep: The number of older ones of each layer; layers that the configuration no longer has count as one.
        current: The templates that the current configuration uses, which all stay.
        layers: The names of the layers that the configuration has.
    """
    found = of_project(connection, project)
    older: dict[str, list[str]] = {}
    for entry in found:
        if entry.text not in current:
            name = layer_of(entry)
            older.setdefault(name if name in layers else "", []).append(entry.text)
    doomed = {name for names in older.values() for name in names[: max(0, len(names) - keep)]}
    # The base may belong to another project whose migrations are the same.
    there = {entry.text for entry in databases.own_databases(connection, Kind.TEMPLATE)} - doomed
    for entry in found:  # a base is older than the layers on it
        if entry.text not in current and _base_of(entry) and _base_of(entry) not in there:
            there.discard(entry.text)
    return [entry.text for entry in reversed(found) if entry.text not in there]


def with_descendants(found: Sequence[OwnDatabase], name: str) -> list[OwnDatabase]:
    """The template `name` of `found` and all that were built on it, those on top first."""
    family = {name}
    for entry in found:  # a base is older than the layers on it
        if _base_of(entry) in family:
            family.add(entry.text)
    return [entry for entry in reversed(found) if entry.text in family]


def drop_unused(connection: Connection, name: str, lock: str, oid: int = 0) -> bool:
    """Drop a database unless a process holds its lock or is connected to it.

    Args:
        connection: To the maintenance database.
        name: The name of the database.
        lock: The lock that processes hold while they use it.
        oid: The OID of the database that is meant; one of the same name with another OID stays. 0 for any.

    Returns:
        Whether it was dropped.

    Raises:
        RefusedError: The database does not bear elefast's mark, or belongs to another role.
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


def drop_orphans(session: MaintenanceSession) -> list[str]:
    """Drop spare databases whose template is gone; the names of those that were dropped.

    It takes the session instead of a connection, so that a lost connection repeats one drop only.
    """
    orphans = spares.orphaned(session.call(databases.own_databases))
    return [
        entry.text
        for entry in orphans
        if session.call(drop_unused, entry.text, spares.lock_name(entry.name), entry.oid)
    ]


def of_project(connection: Connection, project: str) -> list[OwnDatabase]:
    """The project's templates, oldest first."""
    found = databases.own_databases(connection, Kind.TEMPLATE)
    return [entry for entry in found if _read(entry).get("project") == project]


def project_of(entry: OwnDatabase) -> str:
    """The project that a template belongs to; empty where its record has none."""
    return str(_read(entry).get("project", ""))


def layer_of(entry: OwnDatabase) -> str:
    """The name of a template's layer; empty where its record has none."""
    return str(_read(entry).get("layer", ""))


def _base_of(entry: OwnDatabase) -> str:
    return str(_read(entry).get("base", ""))


def roles_of(entry: OwnDatabase) -> list[str]:
    """The roles that a template may refer to."""
    return [str(name) for name in _read(entry).get("roles", ())]


def built_with(connection: Connection, project: str, kind: str, name: str) -> list[str]:
    """The templates of the project whose build has created this role or tablespace."""
    found = of_project(connection, project)
    return [entry.text for entry in found if [kind, name] in _read(entry).get("cluster", [])]


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def _read(entry: OwnDatabase) -> dict[str, Any]:
    """The record in the comment of a database; empty where there is none of this format."""
    record = entry.record
    return record if record.get("elefast") == FORMAT else {}


def use_lock(name: str) -> str:
    """The lock that processes share while they copy the template `name`, so that no other process drops it."""
    return f"use {name}"


def build_lock(owner: str) -> str:
    """The lock that a process holds while it builds a template; `owner` is the owner part of its name."""
    return f"build {owner}"

"""The life of a template on a server: draft, publish, find, fail, retire.

    find ──► hit: clone it
      │ miss
      ▼
    (lock of the key) ─► find again ─► create draft ─► build ─► publish = seal, comment, RENAME
                                                         └─► fail  = comment with the error, RENAME

A draft bears a private name, and the rename to the public one is the last step, so whoever finds a
template finds a whole one, and a builder that is killed leaves only a draft, which nobody uses.
The caller holds the lock of the key between `find again` and the end.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from elefast.postgres import database_properties, databases
from elefast.postgres.contents import FIRST_NORMAL_OID, TemplateContents
from elefast.postgres.databases import OwnDatabase
from elefast.postgres.names import OWNER_LENGTH, Kind, Name, new_serial
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
    "draft",
    "draft_name",
    "fail",
    "failure",
    "find",
    "newest",
    "of_project",
    "owner_of",
    "polish",
    "project_of",
    "publish",
    "retire",
    "use_lock",
]

FORMAT = 4
"""The format of our comments. Part of every key, so that another version of elefast builds its own."""


class Template(NamedTuple):
    """A sealed template, ready to be cloned.

    Args:
        name: Its name on the server.
        replay: Statements that each clone needs besides; see `elefast.postgres.database_properties`.
        contents: What it has in it; None where that cannot be known.
        reason: Why it was built, or that it was not.
        built: Whether this process built it.
    """

    name: str
    replay: tuple[str, ...]
    contents: TemplateContents | None
    reason: str
    built: bool


class State(NamedTuple):
    """What would become of a template that is asked for now.

    Args:
        name: The one that would be used; empty where one would be built.
        reason: Since when it is there, or why one would be built.
        changes: What differs from the newest one of the project, in words; empty where nothing does.
        inputs: What the key is made from.
        why_not_kept: Why it would not outlive the run; empty where it would.
    """

    name: str
    reason: str
    changes: tuple[str, ...]
    inputs: tuple[Input, ...]
    why_not_kept: str


def owner_of(key: Key) -> str:
    """The part of a template's name that says which key it is for."""
    return short_digest(key.digest, OWNER_LENGTH)


def find(connection: Connection, key: Key, recipe: Recipe, max_age: float = 0) -> tuple[Template | None, list[str]]:
    """The template of `key` whose manifest fits the files as they are, and else what no longer fits.

    There may be several of one key: switching a branch back finds the old one again.

    Args:
        connection: To the maintenance database.
        key: What was declared.
        recipe: What compares the rest with the files and the environment.
        max_age: Seconds after which a template fits no longer; 0 for never.
    """
    stale: list[str] = []
    for entry in reversed(databases.own_databases(connection, Kind.TEMPLATE, Kind.VOLATILE, owner=owner_of(key))):
        record = _read(entry)
        # The name holds 60 bits of the key; the comment has all of it, and proves that the entry is whole.
        if not entry.sealed or entry.invalid or record.get("key") != key.digest:
            continue
        changes = _aged(record, max_age) or recipe.still_fits(Manifest.from_json(record["manifest"]))
        if not changes:
            reason = f"reused, built {local_time(str(record.get('built', 'earlier')))}"
            contents = None if record["contents"] is None else TemplateContents.from_json(record["contents"])
            return Template(entry.text, tuple(record["replay"]), contents, reason, built=False), []
        stale = stale or changes
    return None, stale


def _aged(record: dict[str, Any], max_age: float) -> list[str]:
    """That a template is too old, in words; empty where it is not."""
    if not max_age:
        return []
    age = datetime.now(UTC) - datetime.fromisoformat(record["built"])
    if age.total_seconds() < max_age:
        return []
    return [f"the last one is older than template.max_age ({str(age).partition('.')[0]})"]


def newest(connection: Connection, project: str) -> list[Input]:
    """The inputs of the project's newest template, to tell what has changed since; empty where there is none."""
    for entry in reversed(of_project(connection, project)):
        return [Input(label, value) for label, value in _read(entry).get("inputs", [])]
    return []


def draft_name(key: Key) -> Name:
    """A new name for the draft of a template."""
    return Name("elefast", Kind.DRAFT, owner_of(key), new_serial())


def draft(connection: Connection, name: Name, *, encoding: str, strategy: str) -> None:
    """Create the empty database that a template is built in."""
    # A connection that is lost before the answer comes leads here again.
    if not databases.exists(connection, str(name)):
        databases.create(connection, name, encoding=encoding, strategy=strategy)


def polish(connection: Connection) -> None:
    """Give a draft what its copies would miss: statistics of the rows in it, and the cache file of its catalogs.

    The file (``pg_internal.init``) comes with any connection. Tables without rows are vacuumed, where we may reset
    copies of them: the planner then knows that they are empty, as it does after a reset. Otherwise a reset would
    have to restore ``reltuples`` to -1 by an UPDATE, which moves rows of ``pg_class``, so that a list of tables without
    ORDER BY has another order.

    Args:
        connection: To the draft itself, in autocommit mode.
    """
    found = rows(
        connection,
        f"""
        select format('%I.%I', n.nspname, c.relname), pg_relation_size(c.oid) > 0
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'm') and c.oid >= {FIRST_NORMAL_OID} and pg_has_role(c.relowner, 'usage')
          and (pg_relation_size(c.oid) > 0
               or c.relkind = 'r' and (select rolsuper from pg_roles where rolname = current_user))
        """,
    )
    if filled := [name for name, has_rows in found if has_rows]:
        execute(connection, f"ANALYZE {', '.join(filled)}")
    if empty := [name for name, has_rows in found if not has_rows]:
        # From 18 on, VACUUM of a table includes those that inherit from it.
        only = "ONLY " if int(scalar(connection, "show server_version_num")) >= 180000 else ""
        execute(connection, f"VACUUM {', '.join(only + name for name in empty)}")


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
) -> Template:
    """Seal the draft and give it the name under which it is found; nobody may be connected to it.

    Args:
        connection: To the maintenance database.
        drafted: The draft, built to the end.
        key: What it was built from.
        manifest: What the build was seen to use.
        contents: What it has in it.
        project: Whose it is; older templates of the same project retire.
        reason: Why it was built.
        kept: Whether it outlives the run.
    """
    final = Name("elefast", Kind.TEMPLATE if kept else Kind.VOLATILE, drafted.owner, drafted.serial)
    # A connection that is lost in the middle leads here again, and the last step may have been done.
    done = databases.exists(connection, str(final))
    name = str(final if done else drafted)
    recorded = database_properties.read_properties(connection, name)
    if not done:
        databases.seal(connection, name)
        record = {
            "elefast": FORMAT,
            "key": key.digest,
            "project": project,
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "reason": reason,
            "replay": recorded,
            "contents": contents.to_json() if contents is not None else None,
            "inputs": [[item.label, item.digest] for item in key.inputs],
            "manifest": manifest.to_json(),
        }
        databases.comment(connection, name, _dump(record))
        databases.rename(connection, name, final)
    return Template(str(final), tuple(recorded), contents, reason, built=True)


def fail(connection: Connection, drafted: Name, key: Key, *, run: str, test_run: str, error: str, code: str) -> None:
    """Keep a failed draft until the run ends, with its error, so that other workers need not try again."""
    if not databases.exists(connection, str(drafted)):
        return  # done, and the connection lost before we heard of it
    record = {"elefast": FORMAT, "key": key.digest, "test_run": test_run, "error": error, "code": code}
    databases.comment(connection, str(drafted), _dump(record))
    databases.rename(connection, str(drafted), Name("elefast", Kind.FAILED, run, new_serial()))


def failure(connection: Connection, key: Key, test_run: str) -> tuple[str, str] | None:
    """The error with which a build of `key` failed in this test run, and its code; None where none did."""
    for entry in databases.own_databases(connection, Kind.FAILED):
        record = _read(entry)
        if record.get("key") == key.digest and record.get("test_run") == test_run:
            return str(record["error"]), str(record.get("code", "migration-failed"))
    return None


def retire(connection: Connection, project: str, keep: int) -> list[str]:
    """Names of the project's templates beyond the newest one and `keep` older ones, which may be dropped."""
    found = of_project(connection, project)
    return [entry.text for entry in found[: max(0, len(found) - 1 - keep)]]


def of_project(connection: Connection, project: str) -> list[OwnDatabase]:
    """The project's templates, oldest first."""
    found = databases.own_databases(connection, Kind.TEMPLATE)
    return [entry for entry in found if _read(entry).get("project") == project]


def project_of(entry: OwnDatabase) -> str:
    """The project that a template belongs to; empty where its comment does not tell."""
    return str(_read(entry).get("project", ""))


def _dump(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def _read(entry: OwnDatabase) -> dict[str, Any]:
    """Our record in the entry's comment; empty where there is none of this format."""
    record = entry.record
    return record if record.get("elefast") == FORMAT else {}


def use_lock(name: str) -> str:
    """The lock that everybody who clones template `name` shares, so that nobody drops it under them."""
    return f"use {name}"


def build_lock(owner: str) -> str:
    """The lock that the builder of a key's template holds, by the owner part of its name."""
    return f"build {owner}"

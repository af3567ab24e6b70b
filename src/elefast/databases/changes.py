"""What a test changed in its database: rows inserted, updated and deleted, by comparison with an earlier state.

For a test that failed, the earlier state is a fresh copy of the template, which serves all such tests of a process. For
``db.changes()`` it is that of the beginning of the block, which a transaction sees until its end.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from elefast.databases.manager import DatabaseManager
from elefast.errors import ElefastError
from elefast.postgres import databases, driver_errors, row_changes
from elefast.postgres.connections.control_connection import ControlConnection, LostConnectionError
from elefast.postgres.row_changes import Row, Table
from elefast.postgres.sql import execute
from elefast.runtime.redaction import redact
from elefast.runtime.text import one_line

__all__ = ["ChangeReader", "ChangeWatch", "Changes", "TableChange"]

_MOST_ROWS = 100_000
"""Of larger tables, the report of a failed test has no rows, because reading them takes seconds."""

_SECONDS = 3
"""How long one statement may take for the report of a failed test. Then no later report of the run has changes."""

_TABLES_SHOWN = 8
_ROWS_SHOWN = 3
_LINES_SHOWN = 24
_WIDTH = 118


@dataclass(frozen=True)
class TableChange:
    """The changes of one table.

    Args:
        table: Its name, with the schema if that is not ``public``.
        inserted: How many rows are new.
        updated: How many rows with the same primary key differ.
        deleted: How many rows are gone.
        inserted_rows: The new rows, as dictionaries with values of JSON.
        updated_rows: The rows that differ, as they were and as they are.
        deleted_rows: The rows that are gone, without those of a TRUNCATE.
        note: Why the rows of the table were not compared; empty where they were.
    """

    table: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    inserted_rows: Sequence[Row] = field(default=(), repr=False)
    updated_rows: Sequence[tuple[Row, Row]] = field(default=(), repr=False)
    deleted_rows: Sequence[Row] = field(default=(), repr=False)
    note: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted or self.note)

    def lines(self) -> list[str]:
        """The counts and the first rows, one a line, without secrets."""
        counts = [(self.inserted, "inserted"), (self.updated, "updated"), (self.deleted, "deleted")]
        text = self.note or ", ".join(f"{count} {what}" for count, what in counts if count)
        lines = [f"{one_line(self.table)}: {text}"]
        lines += [f"  + {_shown(row)}" for row in self.inserted_rows[:_ROWS_SHOWN]]
        lines += [f"  ~ {_difference(before, after)}" for before, after in self.updated_rows[:_ROWS_SHOWN]]
        lines += [f"  - {_shown(row)}" for row in self.deleted_rows[:_ROWS_SHOWN]]
        return [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 4]} ..." for line in lines]


class Changes(Mapping[str, TableChange]):
    """The changes of a database, by table; those of a table that did not change are zero.

    ``changes["order"]`` is a table of the schema ``public``, or the only one of this name; ``changes["app.order"]`` is
    one of another schema. Iterating gives the tables that changed.
    """

    def __init__(self) -> None:
        self._changes: dict[str, TableChange] | None = None
        self._known: Sequence[Table] = ()

    def fill(self, changes: Mapping[str, TableChange], known: Sequence[Table]) -> None:
        """Note what was found, at the end of the block.

        Args:
            changes: The tables that changed, by label.
            known: All tables.
        """
        self._changes, self._known = dict(changes), known

    @property
    def _found(self) -> dict[str, TableChange]:
        if self._changes is None:
            raise ElefastError(
                "the changes are known at the end of the block: `with db.changes() as changes: ...`, and then "
                '`changes["order"].inserted`',
                code="changes-too-early",
            )
        return self._changes

    def __getitem__(self, table: str) -> TableChange:
        found = self._found
        labels = [known.label for known in self._known]
        if table not in labels:
            same_name = [known.label for known in self._known if known.name == table]
            if len(same_name) != 1:
                close = same_name or difflib.get_close_matches(table, labels, 3)
                raise KeyError(f"no table {table!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
            table = same_name[0]
        return found.get(table, TableChange(table))

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"<Changes: {self if self._changes else 'none' if self._changes == {} else 'not known yet'}>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The changes, line by line, at most one screen of them."""
        lines: list[str] = []
        tables = list(self._found.values())
        for number, change in enumerate(tables):
            found = change.lines()
            if number == _TABLES_SHOWN or (lines and len(lines) + len(found) > _LINES_SHOWN):
                lines.append(f"and {len(tables) - number} more tables: elefast psql on the kept database shows them")
                break
            lines += found
        return lines


class ChangeReader:
    """Reads the changes of databases of one manager.

    Args:
        manager: Makes the copy of the template.
    """

    def __init__(self, manager: DatabaseManager) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._takes_too_long = False
        self._references: dict[tuple[str, str], ControlConnection] = {}
        """Connections to copies of templates, by the run and the scenario."""

    def since_template(self, name: str, scenario: str = "") -> Changes:
        """What differs in database `name` from its template.

        Args:
            name: The database.
            scenario: The scenario that it started from.

        Raises:
            ElefastError: The databases cannot be read.
        """
        if self._takes_too_long:
            raise _unreadable("compared with the template", TimeoutError(f"it takes more than {_SECONDS} s"))
        with self._lock, self._reading("compared with the template"), self._connection_to(name) as after:
            before = self._to_reference(scenario)
            old, new = before.call(row_changes.read_tables), after.call(row_changes.read_tables)
            changes = Changes()
            _compare(changes, before, after, old, new, most=_MOST_ROWS)
            return changes

    def watch(self, name: str) -> ChangeWatch:
        """Note the state of database `name`, to compare it with a later one."""
        with self._reading("watched"):
            return ChangeWatch(self, name)

    def uncommitted(self, name: str) -> Sequence[str]:
        """The sessions that have changes in database `name` that are not committed, in words."""
        return self._manager.session.call(databases.uncommitted_changes, name)

    def close(self) -> None:
        """Close the connections to the copies of templates, which the manager drops."""
        references, self._references = self._references, {}
        for (run, _), connection in references.items():
            if run == self._manager.run:
                connection.close()

    def open(self, name: str, seconds: int = 60) -> ControlConnection:
        """A connection to database `name`, whose statements may take so many `seconds`; the caller closes it."""
        connection = self._manager.open_connection(name, "changes")
        try:
            connection.call(lambda opened: _set_up(opened, seconds))
        except BaseException:
            connection.close()
            raise
        return connection

    def _to_reference(self, scenario: str) -> ControlConnection:
        key = self._manager.run, scenario
        found = self._references.get(key)
        if found is None or not found.is_open:
            name, _ = self._manager.create(scenario=scenario)
            self._references[key] = found = self.open(name, _SECONDS)
        return found

    @contextmanager
    def _connection_to(self, name: str) -> Generator[ControlConnection]:
        connection = self.open(name, _SECONDS)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _reading(self, action: str) -> Generator[None]:
        try:
            yield
        except (SQLAlchemyError, LostConnectionError) as error:
            if isinstance(error, DBAPIError) and driver_errors.sqlstate(error) == "57014":
                self._takes_too_long = True
            raise _unreadable(action, error) from error


class ChangeWatch:
    """The state of a database at one moment, and the comparison with a later one.

    Args:
        reader: Opens connections.
        name: The database.
    """

    def __init__(self, reader: ChangeReader, name: str) -> None:
        self._reader = reader
        self._name = name
        self._before = reader.open(name)
        try:
            self._tables: dict[int, Table] = self._before.call(row_changes.read_tables)
            # A transaction does not see the rows that a table had before a TRUNCATE. So this counts them, before the
            # transaction begins, because its locks would block a TRUNCATE.
            self._counts = self._before.call(lambda at: row_changes.count_rows(at, self._tables.values()))
            self._before.call(row_changes.hold_state)
        except BaseException:
            self._before.close()
            raise

    def finish(self, changes: Changes) -> None:
        """Compare the database with its earlier state, fill `changes`, and end the watch.

        Raises:
            ElefastError: A database cannot be read, or was restored meanwhile.
        """
        try:
            after = self._reader.open(self._name)
            try:
                new = after.call(row_changes.read_tables)
                _compare(changes, self._before, after, self._tables, new, counts=self._counts)
            finally:
                after.close()
        except (SQLAlchemyError, LostConnectionError) as error:
            raise _unreadable("compared with its earlier state", error) from error
        finally:
            self._before.close()

    def close(self) -> None:
        """End the watch without a comparison."""
        self._before.close()


def _compare(
    changes: Changes,
    before: ControlConnection,
    after: ControlConnection,
    old: Mapping[int, Table],
    new: Mapping[int, Table],
    *,
    counts: Mapping[int, int] | None = None,
    most: int | None = None,
) -> None:
    """Fill `changes` with those of all tables.

    Args:
        changes: What to fill.
        before: Sees the earlier state.
        after: Sees the present state.
        old: The tables of the earlier state.
        new: The tables of the present state.
        counts: The numbers of rows in the earlier state, if `before` may not see all of them.
        most: The number of rows from which a table is not read; None for any number.
    """
    # In one database, an old transaction sees old rows, but tables by their present names.
    still_there = old if counts is None else {oid: new[oid]._replace(key=old[oid].key) for oid in old if oid in new}
    old_digests = before.call(lambda at: row_changes.read_digests(at, still_there.values()))
    new_digests = after.call(lambda at: row_changes.read_digests(at, new.values()))
    found: dict[str, TableChange] = {}
    for oid in dict.fromkeys([*new, *old]):
        earlier, present = old_digests.get(oid), new_digests.get(oid)
        table = new.get(oid) or old[oid]
        was = counts.get(oid, 0) if counts is not None else None
        if earlier == present and (was is None or earlier is None or earlier.row_count == was):
            if earlier is None and was:  # it was dropped, and no transaction sees its rows any more
                found[table.label] = TableChange(table.label, deleted=was)
            continue
        largest = max(digest.row_count if digest is not None else 0 for digest in (earlier, present))
        if most is not None and largest > most:
            found[table.label] = TableChange(table.label, note=f"changed; its {largest} rows were not compared")
            continue
        change = _change_of(before, after, table, still_there.get(oid), new.get(oid), was)
        if change:
            found[table.label] = change
    changes.fill(found, list({table.label: table for table in [*old.values(), *new.values()]}.values()))


def _change_of(
    before: ControlConnection,
    after: ControlConnection,
    table: Table,
    old: Table | None,
    new: Table | None,
    was: int | None,
) -> TableChange:
    def read(earlier: Connection) -> row_changes.TableChanges:
        return after.call(lambda present: row_changes.differing(earlier, present, old, new, was=was))

    rows = before.call(read)
    return TableChange(
        table.label,
        len(rows.inserted),
        len(rows.updated),
        len(rows.deleted) + rows.uncounted,
        rows.inserted,
        rows.updated,
        rows.deleted,
    )


def _set_up(connection: Connection, seconds: int) -> None:
    # A test that is still going on may hold locks, and this must not wait for them for ever.
    settings = {"search_path": "pg_catalog", "lock_timeout": "'2s'", "statement_timeout": f"'{seconds}s'"}
    execute(connection, "; ".join(f"SET {name} = {value}" for name, value in settings.items()))


def _unreadable(action: str, error: Exception) -> ElefastError:
    text = driver_errors.driver_message(error) if isinstance(error, SQLAlchemyError) else str(error)
    return ElefastError(
        f"the rows of the database cannot be {action}: {text}.\nCommit, or close the session that has a table locked; "
        "and neither restore nor drop the database meanwhile",
        code="changes-unreadable",
    )


def _shown(row: Row) -> str:
    return ", ".join(f"{name}={_value(name, value)}" for name, value in row.items())


def _difference(before: Row, after: Row) -> str:
    """The first column, which most often is the key, and those that differ."""
    first = next(iter(after))
    parts = [f"{first}={_value(first, after[first])}:"]
    parts += [
        f"{name} {_value(name, before.get(name))} -> {_value(name, after.get(name))}"
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    ]
    return " ".join(parts)


def _value(name: str, value: Any) -> str:
    with suppress(ValueError):
        return one_line(repr(redact(name, value)), 40)
    return "?"

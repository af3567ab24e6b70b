"""``migrator = "sql"``, and seeds in SQL: SQL files, written by hand or by pg_dump.

Each file runs on its own connection, in autocommit mode like in psql. Settings of a dump (an empty ``search_path``)
end with the connection, and statements work that cannot run in a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL

from elefast.errors import MigrationError
from elefast.migrators.files import expand, file_input
from elefast.migrators.steps import BuildTarget
from elefast.postgres.cluster_objects import CREATE_STATEMENT
from elefast.postgres.connections.engines import raw_connection
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import relative

if TYPE_CHECKING:
    from elefast.migrators.cluster_marks import Marking
    from elefast.migrators.sql_splitter import Statement

__all__ = ["Sql", "run_file"]

# pg_dump writes it for every server. An older server rejects it; psql ignores that error.
_NEWER_SETTING = re.compile(r"SET\s+transaction_timeout\b", re.IGNORECASE)
_PASSWORD = re.compile(r"(\bPASSWORD\s+)E?'(?:[^'\\]|''|\\.)*'?", re.IGNORECASE)
_ARCHIVE = b"PGDMP"
_HEAD_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Sql:
    """SQL files, in order.

    Args:
        files: Paths and globs, relative to the project directory.
        key: The configuration key that has them, for errors.
    """

    files: tuple[str, ...]
    key: str = "sql.files"
    runs_project_code: ClassVar[bool] = False

    @property
    def label(self) -> str:
        return ", ".join(self.files)

    def inputs(self, root: Path) -> Sequence[Input]:
        found = self.declared(root)
        order = Input.of(self.key, *(relative(str(path), str(root)) for path in found))
        return [order, *(file_input(path, root) for path in found)]

    def declared(self, root: Path) -> Sequence[Path]:
        return expand(root, self.files, self.key)

    def why_not_kept(self, root: Path) -> str:
        return ""

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        return self.inputs(root), self.why_not_kept(root)

    def run(self, target: BuildTarget) -> None:
        for path in self.declared(target.root):
            run_file(
                path,
                target.url,
                shown_as=relative(str(path), str(target.root)),
                owned=target.owned,
                mark=target.mark,
            )


def run_file(path: Path, url: URL, *, shown_as: str = "", owned: bool = False, mark: str = "") -> None:
    """Run the statements of one file one by one, on a new connection.

    Args:
        path: A file in UTF-8.
        url: The database.
        shown_as: The name of the file in messages; its path by default.
        owned: Elefast has started the server; see `raw_connection`.
        mark: The comment for roles and tablespaces that the file makes; empty for none.

    Raises:
        MigrationError: A statement failed, or the file is no SQL file; the text has file and line.
    """
    # Imported for a build only: its regular expressions take longer to compile than all other work of this module.
    from elefast.migrators.sql_splitter import BackslashCommand, split

    name = shown_as or str(path)
    script = _read(path, name)
    with raw_connection(url, owned=owned) as connection:

        def backslash_escapes() -> bool:
            # Not `connection.info`: that fails where the file has set an encoding that Python does not have.
            return connection.pgconn.parameter_status(b"standard_conforming_strings") == b"off"

        try:
            for statement in split(script, backslash_escapes):
                marking = (
                    _marking(connection, statement.text) if mark and CREATE_STATEMENT.search(statement.text) else None
                )
                _run(connection, statement, name)
                if marking is not None:
                    marking.finish(mark)
        except BackslashCommand as found:
            raise MigrationError(
                f"{name}:{found.line}: {found.command} is a command of psql, not SQL. Take it out, or run the file "
                f'with psql itself: migrator = "command", command.run = ["psql", "-v", "ON_ERROR_STOP=1", "-f", …]',
                code="sql-not-runnable",
            ) from None
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            raise MigrationError(
                f"{name}: a transaction is still open at the end of the file. Add a COMMIT.", code="sql-not-runnable"
            )


def _marking(connection: psycopg.Connection, statement: str) -> Marking | None:
    from elefast.migrators.cluster_marks import Marking

    def run(text: str) -> list[Any]:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []

    try:
        return Marking(statement, run)
    except psycopg.Error:  # the transaction has failed; the statement fails next, and its error has the reason
        return None


def _read(path: Path, name: str) -> str:
    data = path.read_bytes()
    if data.startswith(_ARCHIVE):
        raise MigrationError(
            f"{name} is an archive of pg_dump, not SQL. Dump with --format=plain, or use pg_restore as a command.",
            code="sql-not-runnable",
        )
    if b"\0" in data:
        # libpq would send a statement only up to the NUL byte.
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise MigrationError(
            f"{name}:{line}: there is a NUL byte, which PostgreSQL takes nowhere. Take it out, or save the file as "
            "UTF-8 if it is UTF-16.",
            code="sql-not-runnable",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MigrationError(
            f"{name}:{line}: byte 0x{data[error.start]:02x} is not UTF-8. Convert the file (pg_dump --encoding=UTF8).",
            code="sql-not-runnable",
        ) from error


def _run(connection: psycopg.Connection, statement: Statement, name: str) -> None:
    # Bytes without parameters, so that psycopg does not look for placeholders.
    command = _encoded(connection, statement, statement.text, name)
    data = None if statement.data is None else _encoded(connection, statement, statement.data, name)
    try:
        with connection.cursor() as cursor:
            if data is None:
                cursor.execute(command)
            else:
                with cursor.copy(command) as copy:
                    copy.write(data)
    except psycopg.Error as error:
        if error.sqlstate == "42704" and _NEWER_SETTING.match(statement.text):
            return
        raise MigrationError(_message(name, statement, error), code="sql-failed") from error


def _encoded(connection: psycopg.Connection, statement: Statement, text: str, name: str) -> bytes:
    """`text` in the client encoding of the connection, which the file may have changed.

    Raises:
        MigrationError: The encoding cannot represent it, or Python does not have the encoding.
    """
    try:
        return text.encode(connection.info.encoding)
    except (UnicodeEncodeError, psycopg.NotSupportedError) as error:
        encoding = (connection.pgconn.parameter_status(b"client_encoding") or b"").decode()
        raise MigrationError(
            f"{name}:{statement.line}: this cannot be written in {encoding}, which the file sets as client_encoding. "
            "The file is UTF-8: take that setting out (pg_dump --encoding=UTF8).",
            code="sql-not-runnable",
        ) from error


def _message(name: str, statement: Statement, error: psycopg.Error) -> str:
    line = statement.line
    if error.diag.statement_position:
        line += statement.text.count("\n", 0, int(error.diag.statement_position) - 1)
    head = _PASSWORD.sub(r"\1'***'", " ".join(statement.text.split()))
    head = head if len(head) <= _HEAD_LENGTH else f"{head[: _HEAD_LENGTH - 1]}…"
    text = error.diag.message_primary or str(error).strip()
    if error.sqlstate is None and statement.text[:4].upper() == "COPY":
        text = "the output of COPY TO STDOUT is not read here; take it out, or copy to a file of the server"
    lines = [f"{name}:{line}: {text}"]
    for word, detail in (
        ("detail", error.diag.message_detail),
        ("hint", error.diag.message_hint),
        ("at", error.diag.context),
    ):
        if detail:
            lines.append(f"  {word}: {detail}")
    lines.append(f"  statement: {head}")
    if isinstance(error, psycopg.errors.UndefinedObject) and "role" in str(error):
        lines.append(
            "  The server does not have that role. Declare it with a table [tool.elefast.roles.NAME], and elefast "
            "creates it before the build; or dump with --no-owner --no-privileges."
        )
    return "\n".join(lines)

"""SQL files with every quoting that there is do what psql would do with them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from sqlalchemy import URL, make_url

from elefast.errors import MigrationError
from elefast.migrators.sql import run_file
from elefast.migrators.sql_splitter import BackslashCommand, split
from tests.integration.migrators.conftest import DatabaseFactory
from tests.integration.migrators.migrator_support import dsn_of
from tests.robustness.properties.effort import examples
from tests.robustness.properties.nonsense import odd_scripts, wrong_scripts
from tests.robustness.properties.psql import Witness, bare, standard_strings, witness
from tests.robustness.properties.rule import check
from tests.robustness.properties.scripts import TABLE, File, Piece, commanded, files
from tests.robustness.properties.tally import Tally
from tests.support.dumps import psqls

needs_psql = pytest.mark.skipif(not psqls(), reason="there is no psql here to compare with")


class Database:
    """An empty database, time and again."""

    def __init__(self, url: URL, connection: psycopg.Connection) -> None:
        self.url = url
        self._connection = connection

    def clear(self) -> None:
        """Leave nothing but the table that scripts write to."""
        self._connection.execute(f"DROP SCHEMA public CASCADE; CREATE SCHEMA public; {TABLE}".encode())

    def written(self) -> tuple[str, ...]:
        """What is in the table, in the order in which it came there."""
        return tuple(value for (value,) in self._connection.execute("SELECT value FROM written ORDER BY place"))


@pytest.fixture(scope="module")
def database(server_url: str) -> Generator[Database]:
    """A database for all scripts of this module."""
    factory = DatabaseFactory(make_url(server_url))
    try:
        url = factory()
        with psycopg.connect(dsn_of(url), autocommit=True) as connection:
            # "schema public is dropped" is of no interest
            connection.execute("SET client_min_messages = error")
            yield Database(url, connection)
    finally:
        factory.drop()


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Generator[Witness]:
    """The newest psql, and what it sends."""
    with witness(psqls()[0], tmp_path_factory.mktemp("witness")) as made:
        yield made


@pytest.mark.fault("an SQL file with every quoting", how="Hypothesis writes scripts of which is known what they do")
@pytest.mark.comes_to("each value is in the table")
@given(files())
@examples(2)
def test_every_value_arrives(tally: Tally, database: Database, tmp_path: Path, script: File) -> None:
    """Whatever is around a value and however it is quoted, it is in the table afterwards, each one in its turn."""
    content, values = script
    file = tmp_path / "script.sql"
    file.write_bytes(content)
    database.clear()
    run_file(file, database.url)
    assert database.written() == values
    tally.add("each value is in the table")


@pytest.mark.fault("the same SQL files, run by psql", how="a look that the scripts are right")
@pytest.mark.comes_to("each value is in the table")
@needs_psql
@given(files())
@examples(8)
def test_every_value_arrives_by_psql(tally: Tally, database: Database, tmp_path: Path, script: File) -> None:
    """The scripts are right: psql finds the same in them."""
    content, values = script
    file = tmp_path / "script.sql"
    file.write_bytes(content)
    database.clear()
    command = [psqls()[0], "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn_of(database.url), "-f", str(file)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert database.written() == values
    tally.add("each value is in the table")


@pytest.mark.fault("a command of psql in an SQL file", how="it stands between two scripts that are known")
@pytest.mark.comes_to("the error names it and its line", "it is one of dumps, and does nothing")
@given(commanded())
@examples(2)
def test_a_command_of_psql_is_refused(
    tally: Tally, database: Database, tmp_path: Path, script: tuple[Piece, str, Piece]
) -> None:
    """What stands before it is done, like in psql; nothing behind it is."""
    before, command, after = script
    file = tmp_path / "any.sql"
    file.write_bytes((before.text + after.text).encode())
    database.clear()
    if not command:
        run_file(file, database.url)
        assert database.written() == before.values + after.values
        tally.add("it is one of dumps, and does nothing")
        return
    with pytest.raises(MigrationError) as caught:
        run_file(file, database.url, shown_as="any.sql")
    check(caught.value, place=f"any.sql:{before.text.count(chr(10))}: {command} is a command of psql")
    assert database.written() == before.values
    tally.add("the error names it and its line")


@pytest.mark.fault(
    "an SQL file of any pieces",
    how="Hypothesis puts pieces of quoting together; psql sends them to a server that only takes notes",
)
@pytest.mark.comes_to(
    "psql and elefast send the same", "a command of psql is refused", rare=("psql does not send what is unfinished",)
)
@needs_psql
@given(odd_scripts)
@examples()
def test_any_pieces_are_split_as_psql_splits_them(tally: Tally, noted: Witness, script: str) -> None:
    """Statement by statement the same is sent, whether it is right or wrong, unless a command of psql is refused."""
    state = [False]

    def escapes() -> bool:
        return state[0]

    found: list[tuple[str, str | None]] = []
    try:
        for statement in split(script, escapes):
            found.append((bare(statement.text), statement.data))
            if (standard := standard_strings(statement.text)) is not None:
                state[0] = not standard
    except BackslashCommand:
        tally.add("a command of psql is refused")
        return
    sent = [(text, _without_end(one.data)) for one in noted.run(script.encode()) if (text := bare(one.text))]
    if found and found[:-1] == sent and re.search("['\"$*]", found[-1][0]):
        tally.add("psql does not send what is unfinished")  # not always
        return
    assert found == sent
    tally.add("psql and elefast send the same")


def _without_end(data: str | None) -> str | None:
    """Data without the mark at their end, which some versions of psql send along."""
    for end in ("\\.\n", "\\.\r\n", "\\."):
        if data is not None and data.endswith(end) and (data == end or data[: -len(end)].endswith("\n")):
            return data.removesuffix(end)
    return data


@pytest.mark.fault("a statement anywhere in a file", how="Hypothesis puts pieces of quoting together")
@pytest.mark.comes_to("its line is the one that is told")
@given(odd_scripts)
@examples(0.2)
def test_every_statement_knows_its_line(tally: Tally, script: str) -> None:
    """The line of a statement is one that begins, or goes on, with its text."""
    lines = script.split("\n")
    try:
        found = [(statement.text.partition("\n")[0], statement.line) for statement in split(script)]
    except BackslashCommand as command:
        found = [(command.command, command.line)]
    for text, line in found:
        assert text in lines[line - 1]
    tally.add("its line is the one that is told")


@pytest.mark.fault("an SQL file of any bytes", how="Hypothesis puts bytes, statements and pieces together")
@pytest.mark.comes_to("it runs", "one error names the file")
@given(wrong_scripts)
@examples(2)
def test_any_bytes_run_or_give_one_clear_error(tally: Tally, database: Database, tmp_path: Path, script: bytes) -> None:
    """The error names the file, and is one of elefast's whatever the driver and the server said."""
    file = tmp_path / "any.sql"
    file.write_bytes(script)
    database.clear()
    try:
        run_file(file, database.url, shown_as="sql/any.sql")
        tally.add("it runs")
    except MigrationError as error:
        check(error, place="sql/any.sql")
        tally.add("one error names the file")

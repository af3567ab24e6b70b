"""Tests with a database each, and one that makes another server by hand."""

from __future__ import annotations

from notes.tables import metadata, note
from sqlalchemy import Connection, func, insert, select

from elefast import Database, DatabaseServer, MetadataMigrator


def test_a_note(connection: Connection) -> None:
    """Written and read back."""
    connection.execute(insert(note).values(body="tea"))
    connection.commit()
    assert connection.scalars(select(note.c.body)).all() == ["tea"]


def test_no_note_is_left_of_other_tests(connection: Connection) -> None:
    """What another test committed is in another database."""
    assert connection.scalar(select(func.count()).select_from(note)) == 0


def test_a_server_that_runs_already(server: DatabaseServer) -> None:
    """All that it needs is a URL."""
    other = DatabaseServer(server.url, schema=MetadataMigrator(metadata))
    with other.create_database(prefix="by_hand") as database, database.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(note)) == 0


def test_the_name_of_a_database(database: Database) -> None:
    """It begins with what it was asked for."""
    assert database.name.startswith("elefast_")

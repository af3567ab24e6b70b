"""Tests of a schema in SQL."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session


@pytest.mark.parametrize("name", ["ann", "bob", "cleo"])
def test_ids_begin_at_one(db_session: Session, name: str) -> None:
    """In each test, since each has a database of its own."""
    insert = text("INSERT INTO customer (name) VALUES (:name) RETURNING id")
    assert db_session.scalar(insert, {"name": name}) == 1
    db_session.commit()


def test_names_are_unique(db_session: Session) -> None:
    """The schema is in force."""
    with pytest.raises(IntegrityError):
        db_session.execute(text("INSERT INTO customer (name) VALUES ('ann'), ('ann')"))

"""The pytest plugin of this repository: fixtures that all packages share, over elefast's own."""

from __future__ import annotations

from typing import Protocol

import pytest
from sqlalchemy import Table, insert
from sqlalchemy.orm import Session

__all__ = ["Fill", "fill"]


class Fill(Protocol):
    """Puts products into a table."""

    def __call__(self, table: Table, *products: str) -> None: ...


@pytest.fixture
def fill(db_session: Session) -> Fill:
    """Puts products into a table of the test's database."""

    def fill(table: Table, *products: str) -> None:
        db_session.execute(insert(table), [{"product": product} for product in products])
        db_session.commit()

    return fill

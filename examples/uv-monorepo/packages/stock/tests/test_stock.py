"""Tests with the fixture that all packages share."""

from __future__ import annotations

from shop_testing import Fill
from sqlalchemy import select
from sqlalchemy.orm import Session
from stock.tables import shelf


def test_filled(fill: Fill, db_session: Session) -> None:
    """The shared fixture works on the test's own database, with this package's tables."""
    fill(shelf, "tea", "cake")
    assert db_session.scalars(select(shelf.c.product).order_by(shelf.c.product)).all() == ["cake", "tea"]


def test_empty(db_session: Session) -> None:
    """Nothing is left of other tests."""
    assert db_session.execute(select(shelf)).all() == []

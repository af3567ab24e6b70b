"""Tests that start from different states."""

from __future__ import annotations

import pytest
from shop.models import Order, Product
from shop.orders import place_order
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from elefast import Database

pytestmark = pytest.mark.elefast(scenario="catalog")


def test_an_order_takes_from_the_stock(db: Database, db_session: Session) -> None:
    """The marker of the module chooses the scenario."""
    place_order(db.facts["tea"], quantity=3)
    assert db_session.get_one(Product, db.facts["tea"]).stock == 7


def test_nothing_is_left_to_order(db: Database) -> None:
    """The test before has ordered in another database."""
    with pytest.raises(ValueError, match="only 0 of jam"):
        place_order(db.facts["sold_out"], quantity=1)


@pytest.mark.elefast(scenario="orders")
class TestOrders:
    """The marker of the class is nearer."""

    def test_the_stock_is_lower(self, db: Database, db_session: Session) -> None:
        """By the order that the application has placed; facts of the scenario below are there as well."""
        assert db_session.get_one(Product, db.facts["tea"]).stock == 6
        assert db_session.scalar(select(func.count()).select_from(Order)) == 4

    @pytest.mark.elefast(scenario="refunds")
    def test_the_placed_order_was_refunded(self, db: Database, db_session: Session) -> None:
        """The marker of the test is the nearest."""
        assert db_session.get_one(Order, db.facts["placed"]).refunded


@pytest.mark.elefast(scenario="")
def test_a_shop_without_products(db_session: Session) -> None:
    """An empty name is the state without a scenario."""
    assert db_session.scalar(select(func.count()).select_from(Product)) == 0

"""Tests with a database each; there is no conftest, and nothing else to set up."""

from __future__ import annotations

import pytest
from shop.models import Order, Product
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from elefast import AsyncDatabase, Database


def test_products_are_seeded(db_session: Session) -> None:
    """The migrations ran, and the seed after them."""
    assert db_session.scalars(select(Product.name).order_by(Product.name)).all() == ["cake", "tea"]


def test_an_order_is_seen_by_others(db: Database, db_session: Session) -> None:
    """A commit is a real commit: another connection sees the row."""
    tea = db_session.scalars(select(Product).filter_by(name="tea")).one()
    db_session.add(Order(product=tea, quantity=2))
    db_session.commit()

    with db.engine.connect() as other:
        assert other.scalar(select(func.sum(Order.quantity))) == 2


def test_no_order_is_left_of_other_tests(db_session: Session) -> None:
    """What another test committed is in another database."""
    assert db_session.scalars(select(Order)).all() == []


def test_an_empty_order_is_refused(db_session: Session) -> None:
    """The constraints of the migrations are in force, and a broken transaction needs no care."""
    db_session.add(Order(product_id=1, quantity=0))
    with pytest.raises(IntegrityError, match="quantity_is_positive"):
        db_session.commit()


async def test_orders_can_be_placed_async(async_db_session: AsyncSession) -> None:
    """The same from async code."""
    cake = (await async_db_session.scalars(select(Product).filter_by(name="cake"))).one()
    order = Order(product=cake, quantity=1)
    async_db_session.add(order)
    await async_db_session.commit()
    await async_db_session.refresh(order)

    assert order.placed_at is not None


async def test_sync_and_async_are_one_database(db_session: Session, async_db: AsyncDatabase) -> None:
    """A test has one database, however it looks at it."""
    db_session.add(Product(name="scone", price_cents=290))
    db_session.commit()

    async with async_db.session() as session:
        assert await session.scalar(select(func.count()).select_from(Product)) == 3

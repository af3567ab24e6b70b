"""Orders of tea: one by the application, which takes it from the stock, and three by a factory."""

from __future__ import annotations

from shop.models import Product
from shop.orders import place_order
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import OrderFactory


def fill(session: Session) -> dict[str, int]:
    """A session on the scenario beside the application's own."""
    tea = session.scalars(select(Product.id).where(Product.name == "tea")).one()
    placed = place_order(tea, quantity=4).id
    OrderFactory.create_batch_sync(3, product_id=tea)
    return {"placed": placed}

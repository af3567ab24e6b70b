"""What customers can do."""

from __future__ import annotations

from shop.db import Session
from shop.models import Order, Product


def place_order(product_id: int, quantity: int) -> Order:
    """Order a product, and take it from the stock.

    Raises:
        ValueError: There is not enough of it.
    """
    product = Session.get_one(Product, product_id)
    if product.stock < quantity:
        raise ValueError(f"only {product.stock} of {product.name}")
    product.stock -= quantity
    order = Order(product=product, quantity=quantity)
    Session.add(order)
    Session.commit()
    return order

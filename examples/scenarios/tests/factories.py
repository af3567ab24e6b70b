"""Factories of factory_boy and polyfactory, on the application's session."""

from __future__ import annotations

import factory
from factory.alchemy import SQLAlchemyModelFactory
from polyfactory.factories.sqlalchemy_factory import SQLAlchemyFactory
from shop.db import Session
from shop.models import Order, Product


class ProductFactory(SQLAlchemyModelFactory):
    """Products, by factory_boy."""

    class Meta:
        model = Product
        sqlalchemy_session = Session
        sqlalchemy_session_persistence = "flush"

    name = factory.Sequence(lambda number: f"product {number}")
    stock = 10


class OrderFactory(SQLAlchemyFactory[Order]):
    """Orders, by polyfactory."""

    __session__ = Session
    __set_relationships__ = False

    quantity = 1
    refunded = False

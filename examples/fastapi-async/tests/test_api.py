"""The application, by both kinds of clients."""

from __future__ import annotations

import warnings

import httpx
from shop.api import app
from shop.models import Product
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient` is deprecated")
    from fastapi.testclient import TestClient


async def test_what_the_test_wrote_the_application_reads(
    client: httpx.AsyncClient, async_db_session: AsyncSession
) -> None:
    """A commit is a real commit."""
    async_db_session.add_all([Product(name="tea"), Product(name="cake")])
    await async_db_session.commit()
    assert (await client.get("/products")).json() == ["cake", "tea"]


async def test_what_the_application_wrote_the_test_reads(
    client: httpx.AsyncClient, async_db_session: AsyncSession
) -> None:
    """And sequences begin at 1 in each test."""
    assert (await client.post("/products/scone")).json() == 1
    assert await async_db_session.scalar(select(func.count()).select_from(Product)) == 1


def test_with_the_test_client(db_session: Session) -> None:
    """A sync test of an async application; the client has an event loop of its own."""
    db_session.add(Product(name="biscuit"))
    db_session.commit()
    with TestClient(app) as client:
        assert client.get("/products").json() == ["biscuit"]

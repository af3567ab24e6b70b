"""A client of the application for async tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from shop.api import app, lifespan

from elefast import AsyncDatabase


@pytest_asyncio.fixture
async def client(async_db: AsyncDatabase) -> AsyncIterator[httpx.AsyncClient]:
    """The application on the test's database; httpx does not run the lifespan of an application by itself."""
    transport = httpx.ASGITransport(app)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client

"""The application."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request, status
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from shop.models import Product


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """An engine for as long as the application runs."""
    engine = create_async_engine(os.environ["DATABASE_URL"])
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with request.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]


@app.get("/products")
async def products(session: Session) -> list[str]:
    """The names of all products."""
    return list(await session.scalars(select(Product.name).order_by(Product.name)))


@app.post("/products/{name}", status_code=status.HTTP_201_CREATED)
async def add(name: str, session: Session) -> int:
    """Add a product; its id."""
    product = Product(name=name)
    session.add(product)
    await session.commit()
    return product.id

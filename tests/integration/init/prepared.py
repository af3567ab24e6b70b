"""The projects that `elefast init` meets: each as its developers would have it, before they heard of elefast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config

__all__ = ["PREPARED"]

_PYPROJECT = '[project]\nname = "shop"\nversion = "1.0.0"\nrequires-python = ">=3.11"\n'

_MODELS = """\
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Timestamped(Base):
    __abstract__ = True


class Product(Timestamped):
    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
"""

_REVISION = '''\
"""tags"""
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("product", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
    op.create_table("tag", sa.Column("id", sa.Integer, primary_key=True))
'''

_SYNC_DB = """\
import os

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
SessionLocal = sessionmaker(engine)
"""

_ASYNC_DB = """\
import os

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

engine = create_async_engine(os.getenv("DATABASE_URL", "postgresql+asyncpg://localhost/shop"))
sessions = async_sessionmaker(engine)
"""

_API = """\
from fastapi import FastAPI
from sqlalchemy import select

from shop.db import sessions
from shop.models import Tag

app = FastAPI()


@app.get("/tags")
async def tags() -> list[int]:
    async with sessions() as session:
        return list(await session.scalars(select(Tag.id)))
"""

_HAND_WRITTEN = """\
import os

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from shop.models import Base


@pytest.fixture(scope="session")
def engine():
    engine = create_engine(os.environ["TEST_DATABASE_URL"])
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def db_session(engine):
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        outer.rollback()
"""

_OWN_TEST = """\
from shop.models import Tag


def test_tags(db_session):
    db_session.add(Tag())
    db_session.commit()
    assert db_session.query(Tag).count() == 1
"""


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _empty(root: Path) -> None:
    """Nothing at all."""


def _models(root: Path) -> None:
    _write(root, {"pyproject.toml": _PYPROJECT, "shop/__init__.py": "", "shop/models.py": _MODELS})


def _alembic(root: Path, template: str) -> None:
    config = Config(root / "alembic.ini")
    config.attributes["unused"] = None
    command.init(config, str(root / "migrations"), template=template)
    _write(root, {"migrations/versions/0001_tags.py": _REVISION})


def _alembic_sync(root: Path) -> None:
    _models(root)
    _write(root, {"shop/db.py": _SYNC_DB})
    _alembic(root, "generic")


def _alembic_async(root: Path) -> None:
    _models(root)
    _write(root, {"shop/db.py": _ASYNC_DB, "shop/api.py": _API, "conftest.py": ""})
    with (root / "pyproject.toml").open("a") as file:
        file.write('dependencies = ["fastapi", "sqlalchemy[asyncio]", "asyncpg", "alembic"]\n')
    _alembic(root, "async")


def _hand_written(root: Path) -> None:
    _models(root)
    _write(root, {"conftest.py": _HAND_WRITTEN, "tests/test_tags.py": _OWN_TEST})


PREPARED: dict[str, Callable[[Path], None]] = {
    "empty": _empty,
    "models": _models,
    "alembic_sync": _alembic_sync,
    "alembic_async": _alembic_async,
    "hand_written": _hand_written,
}

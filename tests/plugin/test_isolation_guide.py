"""The guide to isolation: its configurations are valid, and its tests pass in a project that has them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from elefast.config import load_settings

from .conftest import PYTEST, Project

GUIDE = Path(__file__).parents[2] / "docs" / "isolation.md"

APP = """
from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

class Base(DeclarativeBase):
    pass

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

engine = create_engine("postgresql+psycopg://me@127.0.0.1:1/precious")
SessionLocal = sessionmaker(engine)
app, async_app = FastAPI(), FastAPI()

def get_session():
    with SessionLocal() as session:
        yield session

async def get_async_session():
    raise NotImplementedError

@app.post("/items/{name}")
def add(name: str, session: Session = Depends(get_session)):
    session.add(Item(name=name))
    session.commit()

@app.get("/items")
def names(session: Session = Depends(get_session)):
    return session.scalars(select(Item.name)).all()

@async_app.post("/items/{name}")
async def add_async(name: str, session: AsyncSession = Depends(get_async_session)):
    session.add(Item(name=name))
    await session.commit()

@async_app.get("/items")
async def names_async(session: AsyncSession = Depends(get_async_session)):
    return (await session.scalars(select(Item.name))).all()
"""
PATCHED = """
from my_app import SessionLocal, app, engine
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

def test_the_makers_lead_to_the_test(db_session):
    with TestClient(app) as client:
        client.post("/items/lamp")
        assert client.get("/items").json() == ["lamp"]

def test_the_engine_is_for_sessions(db_session):
    import my_app
    with Session(my_app.engine) as session:
        assert session.scalar(text("SELECT current_database()")) == db_session.scalar(text("SELECT current_database()"))
"""


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def test_every_block_is_of_a_kind_that_is_tried_here() -> None:
    """So that none is added that nobody runs."""
    opened = re.findall(r"^```(\S+)$", GUIDE.read_text(), re.MULTILINE)
    assert len(opened) == len(blocks("toml")) + len(blocks("python")) == GUIDE.read_text().count("\n```") // 2


@pytest.mark.parametrize("text", blocks("toml"))
def test_configurations_are_valid(text: str, tmp_path: Path) -> None:
    """As elefast reads them."""
    (tmp_path / "pyproject.toml").write_text(text)
    settings = load_settings(start=tmp_path, env={}).settings.model_dump()
    for key, value in tomllib.loads(text)["tool"]["elefast"].items():
        assert settings[key] == value or list(settings[key]) == value


def test_the_tests_pass(project: Project) -> None:
    """In a project with the configuration that patches, and each of them in a module of its own."""
    table = blocks("toml")[-1].partition("\n")[2]
    project.file("my_app.py", APP)
    project.configure(f'migrator = "metadata"\nmetadata.target = "my_app:Base.metadata"\n{table}', pytest_table=PYTEST)
    texts = [*blocks("python"), PATCHED]
    for number, text in enumerate(texts):
        project.file(f"test_{number}.py", text)
    count = sum(len(re.findall(r"^\s*(?:async )?def test_", text, re.MULTILINE)) for text in texts)
    project.run_apart("-W", "ignore:Using").assert_outcomes(passed=count)

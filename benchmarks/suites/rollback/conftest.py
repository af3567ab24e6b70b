"""SQLAlchemy's recipe: join a session into an external transaction. The database exists."""

import os

import pytest
from models import Base
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session


@pytest.fixture(scope="session")
def engine():
    name = "bench_rollback_" + os.environ.get("PYTEST_XDIST_WORKER", "main")
    engine = create_engine(make_url(os.environ["BENCH_URL"]).set(database=name))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def db_session(engine):
    with engine.connect() as connection:
        transaction = connection.begin()
        with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()

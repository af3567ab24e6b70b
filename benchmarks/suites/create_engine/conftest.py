"""By hand: an engine to a database that exists and has been migrated, and nothing that keeps tests apart."""

import os

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session


@pytest.fixture(scope="session")
def engine():
    engine = create_engine(make_url(os.environ["BENCH_URL"]).set(database="bench_migrated"))
    yield engine
    engine.dispose()


@pytest.fixture
def db_session(engine):
    with Session(engine) as session:
        yield session

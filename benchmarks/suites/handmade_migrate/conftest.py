"""By hand, the shortest way: create a database and its schema for each test."""

import os
import uuid

import pytest
from models import Base
from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.orm import Session

URL = make_url(os.environ["BENCH_URL"])


@pytest.fixture(scope="session")
def server():
    engine = create_engine(URL, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def db_session(server):
    name = f"test-{uuid.uuid4()}"
    with server.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine = create_engine(URL.set(database=name))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()
    with server.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}"'))

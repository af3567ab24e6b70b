"""By hand: a template for each process, a database from it for each test. elefast 0.1 did the same."""

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


@pytest.fixture(scope="session")
def template(server):
    name = f"template-{uuid.uuid4()}"
    with server.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine = create_engine(URL.set(database=name))
    Base.metadata.create_all(engine)
    engine.dispose()
    yield name
    with server.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}"'))


@pytest.fixture
def db_session(server, template):
    name = f"test-{uuid.uuid4()}"
    with server.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    engine = create_engine(URL.set(database=name))
    with Session(engine) as session:
        yield session
    engine.dispose()
    with server.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}"'))

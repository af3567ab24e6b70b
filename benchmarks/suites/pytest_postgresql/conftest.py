"""pytest-postgresql with a server that runs: it makes a template for each process, and a database for each test."""

import os

import pytest
from models import Base
from pytest_postgresql import factories
from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.orm import Session

SERVER = make_url(os.environ["BENCH_URL"])


def load(host, port, user, dbname, password, **_):
    engine = create_engine(URL.create("postgresql+psycopg", user, password, host, port, dbname), poolclass=NullPool)
    Base.metadata.create_all(engine)
    engine.dispose()


server = factories.postgresql_noproc(
    host=SERVER.host, port=SERVER.port, user=SERVER.username, password=SERVER.password, dbname="bench", load=[load]
)
postgresql = factories.postgresql("server")


@pytest.fixture
def db_session(postgresql):
    info = postgresql.info
    url = URL.create("postgresql+psycopg", info.user, info.password, info.host, info.port, info.dbname)
    engine = create_engine(url, poolclass=NullPool)
    with Session(engine) as session:
        yield session
    engine.dispose()

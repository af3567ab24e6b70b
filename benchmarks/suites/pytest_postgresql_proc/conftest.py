"""pytest-postgresql with a server of its own, from binaries on this machine."""

import os

import pytest
from models import Base
from pytest_postgresql import factories
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.orm import Session

BINARIES = os.environ["BENCH_BINARIES"]


def load(host, port, user, dbname, password, **_):
    engine = create_engine(URL.create("postgresql+psycopg", user, password, host, port, dbname), poolclass=NullPool)
    Base.metadata.create_all(engine)
    engine.dispose()


server = factories.postgresql_proc(executable=f"{BINARIES}/pg_ctl", dbname="bench", load=[load])
postgresql = factories.postgresql("server")


@pytest.fixture
def db_session(postgresql):
    info = postgresql.info
    url = URL.create("postgresql+psycopg", info.user, info.password, info.host, info.port, info.dbname)
    engine = create_engine(url, poolclass=NullPool)
    with Session(engine) as session:
        yield session
    engine.dispose()

"""pgtestdbpy as its README shows it; a worker has names of its own, since fixed ones collide."""

import os

import pgtestdbpy
import pytest
from models import Base
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

SERVER = make_url(os.environ["BENCH_URL"])
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")


def engine_for(url):
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"))


def migrate(url):
    engine = engine_for(url)
    Base.metadata.create_all(engine)
    engine.dispose()


CONFIG = pgtestdbpy.Config(SERVER.username, SERVER.password, SERVER.host, SERVER.port, SERVER.database)
MIGRATOR = pgtestdbpy.Migrator(
    migrate, db_name=f"bench_{WORKER}", user=f"bench_{WORKER}", host=SERVER.host, port=SERVER.port
)


@pytest.fixture(scope="session")
def template():
    with pgtestdbpy.templates(CONFIG, MIGRATOR):
        yield


@pytest.fixture
def db_session(template):
    with pgtestdbpy.clone(CONFIG, MIGRATOR) as url:
        engine = engine_for(url)
        with Session(engine) as session:
            yield session
        engine.dispose()

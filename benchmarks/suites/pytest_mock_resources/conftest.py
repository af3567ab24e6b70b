"""pytest-mock-resources; its container is replaced by the server that runs."""

import os

import pytest
from models import Base
from pytest_mock_resources import PostgresConfig, create_postgres_fixture
from sqlalchemy import make_url

SERVER = make_url(os.environ["BENCH_URL"])


@pytest.fixture(scope="session")
def pmr_postgres_config():
    return PostgresConfig(
        host=SERVER.host,
        port=SERVER.port,
        ci_port=SERVER.port,
        username=SERVER.username,
        password=SERVER.password,
        root_database=SERVER.database,
        drivername="postgresql+psycopg",
    )


@pytest.fixture(scope="session")
def pmr_postgres_container(pmr_postgres_config):
    return pmr_postgres_config


db_session = create_postgres_fixture(Base, session=True)

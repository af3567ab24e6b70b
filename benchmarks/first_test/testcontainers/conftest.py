import uuid

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session
from testcontainers.community.postgres import PostgresContainer


@pytest.fixture(scope="session")
def admin():
    with PostgresContainer("postgres:18", driver="psycopg") as container:
        url = make_url(container.get_connection_url())
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("CREATE DATABASE shop_template"))
        config = Config("alembic.ini")
        template = url.set(database="shop_template").render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", template)
        command.upgrade(config, "head")
        yield engine
        engine.dispose()


@pytest.fixture
def db_session(admin):
    name = f"test_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE shop_template"))
    engine = create_engine(admin.url.set(database=name))
    with Session(engine) as session:
        yield session
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

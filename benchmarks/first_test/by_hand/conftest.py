import uuid

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

URL = "postgresql+psycopg://postgres:secret@127.0.0.1:54329"


@pytest.fixture(scope="session")
def admin():
    engine = create_engine(f"{URL}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS shop_template"))
        connection.execute(text("CREATE DATABASE shop_template"))
    config = Config("alembic.ini")
    config.set_main_option("sqlalchemy.url", f"{URL}/shop_template")
    command.upgrade(config, "head")
    return engine


@pytest.fixture
def db_session(admin):
    name = f"test_{uuid.uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE shop_template"))
    engine = create_engine(f"{URL}/{name}")
    with Session(engine) as session:
        yield session
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

import pgtestdbpy
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session


def migrate(url):
    config = Config("alembic.ini")
    own = make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", own)
    command.upgrade(config, "head")


CONFIG = pgtestdbpy.Config("postgres", "secret", "127.0.0.1", 54329, "postgres")
MIGRATOR = pgtestdbpy.Migrator(migrate, host="127.0.0.1", port=54329)


@pytest.fixture(scope="session")
def template():
    with pgtestdbpy.templates(CONFIG, MIGRATOR):
        yield


@pytest.fixture
def db_session(template):
    with pgtestdbpy.clone(CONFIG, MIGRATOR) as url:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        with Session(engine) as session:
            yield session
        engine.dispose()

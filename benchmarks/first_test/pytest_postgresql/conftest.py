import pytest
from alembic import command
from alembic.config import Config
from pytest_postgresql import factories
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.orm import Session


def url_of(user, password, host, port, dbname):
    return URL.create("postgresql+psycopg", user, password, host, port, dbname)


def load(host, port, user, dbname, password, **_):
    config = Config("alembic.ini")
    url = url_of(user, password, host, port, dbname).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")


server = factories.postgresql_proc(load=[load])
postgresql = factories.postgresql("server")


@pytest.fixture
def db_session(postgresql):
    info = postgresql.info
    engine = create_engine(url_of(info.user, info.password, info.host, info.port, info.dbname), poolclass=NullPool)
    with Session(engine) as session:
        yield session

"""The same suite without a database: what pytest, SQLAlchemy and the tests themselves cost."""

import pytest


@pytest.fixture
def db_session():
    return None

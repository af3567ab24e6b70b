"""The suite for asyncio without a database."""

import pytest
import sqlalchemy.ext.asyncio  # noqa: F401  as all others import it


@pytest.fixture
def async_db_session():
    return None

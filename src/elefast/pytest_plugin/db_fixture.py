"""The fixture `db`, apart from the others because pytest-django has one of the same name and keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from elefast import Database

__all__ = ["db"]


@pytest.fixture
def db(elefast_db: Database) -> Database:
    """The test's own database, migrated; gone afterwards. The same as `elefast_db`."""
    return elefast_db

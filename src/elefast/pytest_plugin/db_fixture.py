"""The fixture `db`. It is in a separate module, because it is not registered where pytest-django has a `db`."""

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

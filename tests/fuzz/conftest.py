"""What these tests borrow from those of the migrators."""

from tests.migrators.conftest import new_database

__all__ = ["new_database"]

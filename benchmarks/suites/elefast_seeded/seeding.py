"""Fills every table."""

from models import MODELS
from sqlalchemy import Connection, insert


def fill(connection: Connection) -> None:
    """100 rows for each table."""
    for model in MODELS:
        connection.execute(insert(model), [{"name": f"row {number}", "amount": number} for number in range(100)])

"""How soon a server notices that a machine is gone which never said goodbye.

With TCP's own defaults it takes hours, and so long there are its sessions: with the locks that are a run's sign of
life, with a test's transaction, and in a database that nobody may drop while somebody is connected to it.
Nothing of this happens on sockets that have no such options.
"""

from __future__ import annotations

from sqlalchemy import Connection

from elefast.postgres import databases
from elefast.postgres.sql import execute, identifier, literal

__all__ = ["SETTINGS", "set_for_database"]

SETTINGS = {
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Half a minute, as the server has them; seconds, seconds, a number, and milliseconds."""


def set_for_database(connection: Connection, name: str) -> None:
    """Let them be those of whoever connects to database `name`, with whatever driver.

    Raises:
        RefusedError: The database is not elefast's, or another role's.
    """
    if databases.check_ownership(connection, name, "changed"):
        here = identifier(name)
        settings = (f"ALTER DATABASE {here} SET {setting} = {literal(value)}" for setting, value in SETTINGS.items())
        execute(connection, "; ".join(settings))

"""TCP keepalive settings, by which a server soon notices that the machine of a client is gone.

With the defaults of TCP it takes hours. Until then the server keeps the client's sessions, with the locks that are a
run's sign of life and with the transactions of tests, and their databases cannot be dropped. The settings have no
effect on Unix sockets.
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
"""A limit of half a minute, in the server's units: seconds, seconds, a number, and milliseconds."""


def set_for_database(connection: Connection, name: str) -> None:
    """Set them for all later sessions on database `name`.

    Raises:
        RefusedError: The name does not bear elefast's mark, or the database belongs to another role.
    """
    if databases.check_ownership(connection, name, "changed"):
        here = identifier(name)
        settings = (f"ALTER DATABASE {here} SET {setting} = {literal(value)}" for setting, value in SETTINGS.items())
        execute(connection, "; ".join(settings))

"""A connection to a server that may not be there yet, or not any more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

__all__ = ["Monitor"]


class Monitor:
    """Asks a server, as often as it likes.

    Args:
        connect: Connects to it, or raises psycopg's `OperationalError`.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[tuple[Any, ...]]]) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query; none where nobody answers."""
        with suppress(psycopg.OperationalError):
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            cursor = self._connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []
        self.close()
        return []

    def close(self) -> None:
        """Let go of the server."""
        if self._connection is not None:
            self._connection.close()

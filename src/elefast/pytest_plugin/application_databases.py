"""Refuses connections to the databases that the engines and URLs of `patch` were made for.

`patch` redirects what it names. An engine that other code made for the same database, such as a module that `runpy`
runs, would still reach the developer's data. This module checks each connection that a pool of SQLAlchemy hands out in
the process of the tests. It knows SQLAlchemy's pools. It must not know pytest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import URL, event
from sqlalchemy.pool import Pool

from elefast.config.local_hosts import is_local
from elefast.errors import RefusedError
from elefast.isolation.engine_redirect import connect_arguments
from elefast.postgres.names import Name

__all__ = ["ApplicationDatabases"]

_KEY = "elefast application database"
_DEFAULT_PORT = 5432


class ApplicationDatabases:
    """The databases that targets of `patch` were made for."""

    def __init__(self) -> None:
        self._targets: dict[_Address, str] = {}
        """The target of each database, for messages."""

    def add(self, arguments: Mapping[str, Any], target: str) -> None:
        """Refuse connections to a database from now on.

        Args:
            arguments: Arguments for a driver that name the database.
            target: The target, or a description of the engine that was made from it.
        """
        address = _address(arguments)
        # An engine may have been made for a test, or for a database that a fixture made with elefast.
        if address is None or address.host.endswith(".elefast.invalid") or Name.parse(address.database):
            return
        if not self._targets:
            event.listen(Pool, "checkout", self._check)
        self._targets.setdefault(address, target)

    def add_url(self, url: URL, target: str) -> None:
        """Refuse connections to the database of a URL from now on; see `add`."""
        self.add(url.translate_connect_args(), target)

    def close(self) -> None:
        """End the check."""
        if event.contains(Pool, "checkout", self._check):
            event.remove(Pool, "checkout", self._check)
        self._targets.clear()

    def _check(self, connection: Any, record: Any, proxy: Any) -> None:
        """Check a connection that a pool is about to hand out; a listener for ``checkout``."""
        __tracebackhide__ = True
        if _KEY not in record.info:
            record.info[_KEY] = _address(connect_arguments(proxy._pool) or {})
        target = self._targets.get(record.info[_KEY])
        if target is None:
            return
        raise RefusedError(
            f"an engine that `patch` does not name has connected to the database that {target} was made for. elefast "
            f"leads {target} to the database of the test, and lets no other engine of this process use its own "
            "database.\n"
            f"Name this engine in `patch` as well, or use the one of {target}",
            code="patched-database",
        )


class _Address(NamedTuple):
    """A database of a server; an empty host is this machine."""

    host: str
    port: str
    database: str


def _address(arguments: Mapping[str, Any]) -> _Address | None:
    """The database that a driver's connect arguments name; None if they leave that to something else."""
    database = arguments.get("dbname") or arguments.get("database")
    if not isinstance(database, str):
        return None
    host = str(arguments.get("host") or "")
    port = str(arguments.get("port") or _DEFAULT_PORT)
    return _Address("" if is_local(host) else host.lower(), port, database)

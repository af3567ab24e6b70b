"""Removes files of databases that no catalog knows, which a server leaves if it is killed while it copies or drops one.

PostgreSQL does not remove them, and a data directory for reuse would grow by some megabytes each time.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from elefast.providers.files import directories

if TYPE_CHECKING:
    import psycopg

__all__ = ["clear"]


def clear(connection: psycopg.Connection[tuple[int]], data: str) -> list[str]:
    """Remove the directories of databases that do not exist.

    Args:
        connection: To the server, as its superuser, in a transaction.
        data: Its data directory, in a directory of elefast's.

    Returns:
        The directories that were removed.
    """
    if not os.path.isfile(os.path.join(os.path.dirname(data), directories.MARKER)):
        return []
    # CREATE and DROP DATABASE hold a conflicting lock while files and row are inconsistent.
    connection.execute("lock table pg_catalog.pg_database in share mode nowait")
    known = {str(oid) for (oid,) in connection.execute("select oid from pg_catalog.pg_database")}
    base = os.path.join(data, "base")
    gone = [os.path.join(base, name) for name in os.listdir(base) if name.isdigit() and name not in known]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return gone

"""Files of databases that no catalog knows: what is left where a server is killed while it copies or drops one.

PostgreSQL does not look for them, and a data directory that is reused would grow by some megabytes each time.
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
    """Remove them; the directories that went.

    Args:
        connection: To the server, as its superuser, in a transaction.
        data: Its data directory, in a directory of ours.
    """
    if not os.path.isfile(os.path.join(os.path.dirname(data), directories.MARKER)):
        return []
    # Whoever makes or drops a database has a lock that this one excludes, from before the files until after the row.
    connection.execute("lock table pg_catalog.pg_database in share mode nowait")
    known = {str(oid) for (oid,) in connection.execute("select oid from pg_catalog.pg_database")}
    base = os.path.join(data, "base")
    gone = [os.path.join(base, name) for name in os.listdir(base) if name.isdigit() and name not in known]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return gone

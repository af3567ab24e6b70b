"""What is counted while the workers are at it: in their processes, on the server, and in directories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import psycopg

from elefast.postgres.names import Kind, Name

__all__ = ["Sampler"]

_COUNTS = """
select
  (select count(*) from pg_stat_activity where backend_type = 'client backend'),
  (select count(*) from pg_locks where locktype = 'advisory'),
  (select count(*) from pg_database where oid >= 16384)
"""


class Sampler:
    """Counts.

    Args:
        url: The server, as psycopg reads it.
        root: The directory below which elefast's own files are.
    """

    def __init__(self, url: str, root: Path) -> None:
        self._connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True, application_name="load")
        self._root = root
        data = Path(self._one("show data_directory")[0])
        self._data = data if (data / "PG_VERSION").exists() else None
        """Where the server's data are, if they are on this machine."""

    def sample(self, processes: Sequence[int], objects: Sequence[int]) -> dict[str, float]:
        """One of everything, with means over the workers.

        Args:
            processes: The workers.
            objects: How many Python objects each of them has.
        """
        workers = [psutil.Process(pid) for pid in processes]
        connections, locks, databases = self._one(_COUNTS)
        files = {
            "memory of a worker, MB": fmean(worker.memory_info().rss / 2**20 for worker in workers),
            "objects of a worker": fmean(objects),
            "threads of a worker": fmean(worker.num_threads() for worker in workers),
            "open files of a worker": fmean(worker.num_fds() for worker in workers),
            "connections": float(connections),
            "locks": float(locks),
            "databases": float(databases),
            "files of elefast": float(self._own_files()),
        }
        if self._data is not None:
            directories = len(os.listdir(self._data / "base"))
            files |= {"directories of databases": float(directories), "other files of the server": self._other_files()}
        return files

    def left(self, size: int) -> list[str]:
        """After the end of all workers: what is on the server beside templates and what waits for the next run.

        Args:
            size: How many databases may wait.
        """
        rows = self._connection.execute("select datname from pg_database where oid >= 16384").fetchall()
        names = {text: Name.parse(text) for (text,) in rows}
        ready = [text for text, name in names.items() if name is not None and name.kind is Kind.SPARE]
        found = [text for text, name in names.items() if name is None or name.kind not in (Kind.SPARE, Kind.TEMPLATE)]
        return found + ([f"{len(ready)} databases wait for the next run"] if len(ready) > size else [])

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()

    def _one(self, query: str) -> tuple[Any, ...]:
        row = self._connection.execute(query.encode()).fetchone()
        assert row is not None
        return row

    def _own_files(self) -> int:
        """Files of elefast's: leases, locks, states, caches; not those of the server's data."""
        count = 0
        for _, directories, names in os.walk(self._root):
            if "PG_VERSION" in names:
                directories.clear()
                continue
            count += len(names)
        return count

    def _other_files(self) -> float:
        assert self._data is not None
        count = 0
        for where, directories, names in os.walk(self._data):
            if Path(where) == self._data:
                directories.remove("base")
            count += len(names)
        return float(count)

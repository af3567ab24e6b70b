"""The project whose databases are acquired, and what a worker does with each of them."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.pool import NullPool

from elefast import Stack

__all__ = ["SHARES", "Work", "environment", "write"]

CONFIGURATION = """
[project]
name = "load"
[tool.elefast]
migrator = "sql"
[tool.elefast.sql]
files = ["schema.sql"]
"""
SCHEMA = """
create table author (id serial primary key, name text not null);
create table note (id serial primary key, author_id integer references author, body text not null);
create index on note (body);
create table kind (id integer primary key, name text);
insert into kind select number, 'kind ' || number from generate_series(1, 20) number;
"""
SHARES = {
    "sync": 44,
    "async": 40,
    "dirty": 8,
    "dirty async": 4,
    "open": 2,
    "open raw": 1,
    "several": 1,
}
"""What is done with a database, and how often of a hundred times."""


def write(path: Path) -> None:
    """Write the project's files."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "pyproject.toml").write_text(CONFIGURATION, encoding="utf-8")
    (path / "schema.sql").write_text(SCHEMA, encoding="utf-8")


def environment(url: str, bin_dir: str, root: Path, pool_max: int) -> dict[str, str]:
    """The environment of all processes: a server that is there, or one of elefast's own, below `root`."""
    foreign = ("ELEFAST_", "PYTEST_", "PG")
    left = {name: value for name, value in os.environ.items() if not name.startswith(foreign) and name != "CI"}
    # On one of elefast's own whose data stay, the end is that of every run: what is left is for the next one.
    local = {"ELEFAST_PROVIDER": "local", "ELEFAST_LOCAL__REUSE": "true", "ELEFAST_LOCAL__BIN_DIR": bin_dir}
    server = {"ELEFAST_ENGINE__URL": url} if url else local
    ours = {"_ELEFAST_ROOT": str(root), "ELEFAST_POOL__MAX": str(pool_max), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**left, **server, **ours}


class Work:
    """Acquires databases of one stack, uses them, and gives them back, as tests of all kinds would.

    Args:
        stack: Whose databases.
        dice: Which kind comes next.
        hoard: Of each thing that must not grow, keep one with each so many acquires; none for 0.
    """

    def __init__(self, stack: Stack, dice: random.Random, hoard: int = 0) -> None:
        self._stack = stack
        self._dice = dice
        self._hoard = hoard
        self._hoarded: list[Any] = []
        self._open: deque[psycopg.Connection[Any]] = deque()
        self.acquires = 0
        self.kinds: dict[str, int] = dict.fromkeys(SHARES, 0)

    def one(self) -> None:
        """One test's worth.

        Raises:
            Exception: Whatever went wrong: the server's, the driver's or elefast's error, or a database that was
                not as it should be.
        """
        (kind,) = self._dice.choices(list(SHARES), list(SHARES.values()))
        self.kinds[kind] += 1
        if kind == "several":
            lent = [self._stack.checkout(f"test_{kind}[{self.acquires}]") for _ in range(3)]
        else:
            lent = [self._stack.checkout(f"test_{kind}[{self.acquires}]")]
        self.acquires += len(lent)
        try:
            for database in lent:
                if kind.endswith("async"):
                    asyncio.run(self._use_async(database, kind))
                else:
                    self._use(database, kind)
        finally:
            for database in lent:
                database.release()
        told = self._stack.service.take_leaks()  # as the plugin asks after each test
        if unexpected := [leak for leak in told if "test_open" not in leak.test]:
            raise AssertionError(f"leaks that were none: {unexpected}")
        if self._hoard and self.acquires % self._hoard == 0:
            self._keep_one()

    def close(self) -> None:
        """Let go of what is still open."""
        while self._open:
            self._open.popleft().close()

    def _use(self, lent: Any, kind: str) -> None:
        engine = lent.sync.engine
        with engine.begin() as connection:
            _look_and_write(connection, kind)
        if kind == "open":  # the engine's connection is never given back, in the middle of a transaction
            left = engine.connect()
            left.exec_driver_sql("insert into note (body) values ('never committed')")
            self._leave(left.connection.driver_connection)
            left.detach()  # or SQLAlchemy would roll it back when nobody has it any more
        elif kind == "open raw":
            connection = psycopg.connect(lent.dsn)
            connection.execute("select count(*) from note")
            self._leave(connection)

    async def _use_async(self, lent: Any, kind: str) -> None:
        async with lent.async_engine.begin() as connection:
            await connection.run_sync(_look_and_write, kind)
        if lent.async_engine.pool.__class__ is not NullPool:
            await lent.async_engine.dispose()

    def _leave(self, connection: Any) -> None:
        # elefast ends its session; the socket of this end is the test's, which keeps a few of them for a while.
        self._open.append(connection)
        while len(self._open) > 3:
            self._open.popleft().close()

    def _keep_one(self) -> None:
        thread = threading.Thread(target=time.sleep, args=(3600,), daemon=True)
        thread.start()
        url = self._stack.service.url_for("postgresql", "postgres").render_as_string(hide_password=False)
        file = os.open(os.devnull, os.O_RDONLY)  # never closed
        self._hoarded.append((thread, psycopg.connect(url), file, bytearray(os.urandom(300_000))))
        self._hoarded += [{number: [number]} for number in range(1000)]
        self._stack.checkout("hoarded")


def _look_and_write(connection: Connection, kind: str) -> None:
    """See that the database is as the template made it, and write to it."""
    counts = "select (select count(*) from author), (select count(*) from note), (select count(*) from kind)"
    seen = tuple(connection.exec_driver_sql(counts).one())
    if seen != (0, 0, 20):
        raise AssertionError(f"a database that is not as its template made it: {seen}")
    author = connection.exec_driver_sql("insert into author (name) values ('Ann') returning id").scalar()
    if author != 1:
        raise AssertionError(f"a sequence that is not as its template made it: {author}")
    connection.exec_driver_sql("insert into note (author_id, body) select 1, 'note ' || n from generate_series(1, 3) n")
    if kind.startswith("dirty"):  # so that it cannot be put back in place
        connection.exec_driver_sql("create table more as select * from kind")
        connection.exec_driver_sql("update kind set name = upper(name) where id < 5")

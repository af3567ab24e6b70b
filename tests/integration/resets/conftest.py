"""A stack whose databases are reset, and a comparison of each with a new one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import elefast
from tests.integration.resets.deep import deep

SCHEMA = Path(__file__).with_name("schema.sql").read_text("utf-8")


class Bench:
    """One database after the other, of a pool of one; each is looked at before it is used.

    Args:
        stack: With ``pool.size = 1``.
    """

    def __init__(self, stack: elefast.Stack) -> None:
        self.stack = stack
        self.stack.checkout().release()
        self.stack.checkout().release()  # from now on there are threads
        self.settle()
        copy = self.stack.service.checkout("by_hand", "utf8")
        self.pristine = self._look(copy)
        self.stack.service.release(copy, wait=True)

    def use(self, work: Callable[[psycopg.Connection], None]) -> bool:
        """Do something to the next database, which is as new; whether it was reset afterwards."""
        before = len(self.stack.report().restore)
        lent = self.stack.checkout("a test")
        seen = self._look(lent.name)
        different = {key for key in seen.keys() | self.pristine.keys() if seen.get(key) != self.pristine.get(key)}
        assert not different, {key: (self.pristine.get(key), seen.get(key)) for key in different}
        with psycopg.connect(lent.dsn) as connection:
            work(connection)
        lent.release()
        self.settle()
        return len(self.stack.report().restore) > before

    def settle(self) -> None:
        """Wait until no database is being reset, dropped or made."""
        pool = self.stack.service.pool
        assert pool.wait_until(lambda state: state.is_quiet and len(state.idle) >= state.size, 60)

    def _look(self, name: str) -> dict[str, object]:
        engine = self.stack.service.engine(name)
        try:
            with engine.connect() as connection:
                # Else each sequence would count as used, only because it was read.
                superuser = "FROM pg_roles WHERE rolname = current_user AND rolsuper"
                connection.exec_driver_sql(f"SELECT set_config('track_counts', 'off', true) {superuser}")
                return deep(connection)
        finally:
            engine.dispose()


@contextmanager
def opened(directory: Path, url: str, *, schema: str = SCHEMA, keys: str = "") -> Iterator[Bench]:
    """A bench for a project in `directory` whose schema is `schema`, with further `keys` of its configuration."""
    (directory / "schema.sql").write_text(schema, "utf-8")
    (directory / "pyproject.toml").write_text(f'[tool.elefast]\nsql.files = ["schema.sql"]\npool.size = 1\n{keys}\n')
    with elefast.from_config(directory, env={**os.environ, "ELEFAST_ENGINE__URL": url}) as stack:
        yield Bench(stack)
        assert not [leak for leak in stack.service.take_leaks() if "open" in leak.what]


@pytest.fixture
def bench(tmp_path: Path, server_url: str) -> Iterator[Bench]:
    """A bench on a superuser's stack."""
    with opened(tmp_path, server_url) as bench:
        yield bench

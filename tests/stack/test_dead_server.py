"""A server that is slow to let go, will not drop a database, or has died, costs no test more than it must."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest
from sqlalchemy import Connection

import elefast
from elefast.kernel import databases
from elefast.kernel.databases import Backend


def test_a_backend_that_is_slow_to_go_is_no_leak(stack: elefast.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time alone does not count: on a starved machine it is over after a look or two."""
    lent = stack.open()
    client = psycopg.connect(lent.dsn)
    pid = client.info.backend_pid
    looks: list[int] = []
    backends = databases.backends

    def watched(connection: Connection, name: str) -> Sequence[Backend]:
        found = backends(connection, name)
        looks.append(len(found))
        if len(looks) == 10:
            client.close()
            connection.exec_driver_sql(f"select pg_terminate_backend({pid}, 60000)")
        return found

    monkeypatch.setattr(databases, "backends", watched)
    assert stack._running
    assert stack._running.control.session.lingering(lent.name, 1e-9) == []
    assert looks == [1] * 10 + [0]
    lent.release()

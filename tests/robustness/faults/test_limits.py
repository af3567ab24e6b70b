"""The server has reached a limit, or was told to keep some: connections, disk, time, writing."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

import elefast
from elefast.errors import DatabaseNotReadyError, MigrationError
from tests.guarantees.projects.project_support import Project
from tests.robustness.faults.conftest import Open, works
from tests.robustness.faults.server import Server

TESTS = """
import psycopg

def test_greedy(db):
    for _ in range(100):
        OPEN.append(psycopg.connect(db.dsn, application_name="a greedy test"))

OPEN = []

def teardown_function():
    while OPEN:
        OPEN.pop().close()

def test_after(db_session):
    db_session.connection()
"""


@contextmanager
def _role(server: Server, name: str, *settings: str) -> Iterator[str]:
    """A role that may create databases, with settings of its own; its URL."""
    server.ask(f"create role {name} login createdb password 'secret-of-faults'")
    for setting in settings:
        server.ask(f"alter role {name} set {setting}")
    try:
        yield server.url.set(username=name).render_as_string(hide_password=False)
    finally:
        owned = "select datname from pg_database where pg_get_userbyid(datdba) = "
        for (database,) in server.ask(f"{owned}'{name}'"):
            server.ask(f'alter database "{database}" with is_template false')
            server.ask(f'drop database "{database}" with (force)')
        server.ask(f"drop role {name}")


@contextmanager
def _hog(server: Server, most: int = 1000) -> Iterator[None]:
    """Somebody else has all connections that an ordinary role can have."""
    with _role(server, "hog"), ExitStack() as stack:
        for _ in range(most):
            try:
                stack.enter_context(server.connect(username="hog"))
            except psycopg.OperationalError:
                break
        yield


@pytest.fixture
def few(server: Server) -> Iterator[Server]:
    """The server with sixteen connections."""
    server.restart(max_connections=16, max_wal_senders=0)
    yield server
    server.restart()


@pytest.mark.fault("no connection left for elefast", how="somebody else holds all of max_connections = 16")
def test_full(open_stack: Open, few: Server) -> None:
    """An error that says so and how to see who has them; it works when there are some again."""
    with _role(few, "ordinary") as url:
        with (
            _hog(few),
            pytest.raises(DatabaseNotReadyError, match="max_connections") as caught,
            open_stack(ELEFAST_ENGINE__URL=url) as stack,
        ):
            stack.admin(timeout=1)
        assert caught.value.code == "too-many-connections"
        with open_stack(ELEFAST_ENGINE__URL=url) as stack:
            works(stack)


@pytest.mark.fault("no connection left for a test", how="a test opens all of max_connections = 16")
def test_full_in_a_test(few: Server, project: Project) -> None:
    """The failure names who has them; the next test works."""
    project.write("test_it.py", TESTS)
    out = project.pytest(passes=False).text
    assert "1 failed, 1 passed" in out
    assert "The server's connections" in out
    assert "x a greedy test (role postgres, database elefast_d" in out


@pytest.mark.fault("no connection left for a migration", how="somebody else holds all but one of max_connections = 16")
def test_full_in_a_build(few: Server, open_stack: Open) -> None:
    """One error that names who has them; the next test builds the template."""
    with _role(few, "ordinary") as url, open_stack(ELEFAST_ENGINE__URL=url) as stack:
        assert stack.url  # elefast itself is connected
        with _hog(few), pytest.raises(DatabaseNotReadyError, match=r"\d+ x without a name \(role hog, ") as caught:
            stack.checkout()
        assert caught.value.code == "too-many-connections"
        works(stack)


WORKERS = """
import pytest

@pytest.mark.parametrize("number", range(16))
def test_it(db_session, db, number):
    held = [db.engine.connect() for _ in range(3)]
    db_session.connection()
"""


@pytest.mark.fault("too few connections for the workers", how="pytest -n 8, max_connections = 16, 4 for each test")
def test_full_of_workers(few: Server, project: Project) -> None:
    """The failures say how many are elefast's for the workers and how many are the tests', and what to do."""
    project.write("test_it.py", WORKERS)
    with _role(few, "ordinary") as url:
        out = project.pytest("-n8", passes=False, ELEFAST_ENGINE__URL=url).text
    assert re.search(r"[2-8] x elefast run \(role ordinary, database postgres\)", out)  # the others come later
    assert re.search(r"\d x without a name \(role ordinary, (\d databases|database) elefast_d", out)
    assert "Raise max_connections (tuning.max_connections for a server of elefast's own)" in out


@pytest.fixture
def small_disk(server: Server, tmp_path: Path) -> Iterator[None]:
    """The server's data on a file system with room for three more databases."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    server.stop()
    used = sum(path.stat().st_blocks for path in server.data.rglob("*")) // 2
    parked = server.data.with_name("parked")
    server.data.rename(parked)
    server.data.mkdir()
    options = f"size={used + 40_000}k,mode=0700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(server.data)], check=False)
    try:
        if mounted.returncode:
            pytest.skip("cannot mount")
        subprocess.run(["cp", "-a", f"{parked}/.", str(server.data)], check=True)
        server.account.give(str(server.data))
        server.start()
        yield
        server.stop()
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", str(server.data)], check=True)
        server.data.rmdir()
        parked.rename(server.data)
        server.start()


@pytest.mark.fault("the server's disk is full", how="its data on a tmpfs with 40 MB more than they are")
def test_disk(open_stack: Open, server: Server, small_disk: None) -> None:
    """One error that says so; when databases are given back the next ones work, and nothing half-made is left."""
    with open_stack(ELEFAST_POOL__SIZE="0") as stack:
        lent = [stack.checkout("first")]
        with pytest.raises(DatabaseNotReadyError, match="No space left on device") as caught:
            lent += [stack.checkout("more") for _ in range(20)]
        assert caught.value.code == "server-disk-full"
        for one in lent:
            one.release(wait=True)
        works(stack)


@pytest.mark.fault("read-only by default", how="ALTER ROLE SET default_transaction_read_only = on")
def test_read_only(open_stack: Open, server: Server) -> None:
    """elefast's own work goes on; a migration that may not write says so in the server's words."""
    with _role(server, "reader", "default_transaction_read_only = on") as url:
        with open_stack(ELEFAST_ENGINE__URL=url) as stack, pytest.raises(MigrationError, match="read-only transaction"):
            stack.checkout()
        server.ask("alter role reader reset all")
        with open_stack(ELEFAST_ENGINE__URL=url) as stack:
            works(stack)


# Long enough for the test's own session on a busy machine.
LIMITS = ["statement_timeout = '2s'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1s'"]
IDLE = 1.2
"""Seconds without a statement, after which a session with these limits would have been ended."""


@pytest.mark.fault("timeouts of the role", how=f"ALTER ROLE SET {', '.join(LIMITS)}")
def test_timeouts(open_stack: Open, server: Server) -> None:
    """elefast's own sessions have none: waiting for a lock and copying take as long as they take."""
    with (
        _role(server, "hasty", *LIMITS, "idle_session_timeout = '1s'") as url,
        open_stack(ELEFAST_ENGINE__URL=url, ELEFAST_POOL__SIZE="0") as stack,
    ):
        works(stack)
        time.sleep(IDLE)
        works(stack)


@pytest.mark.fault("timeouts of the maintenance database", how=f"ALTER DATABASE postgres SET {', '.join(LIMITS)}")
def test_timeouts_of_the_database(open_stack: Open, server: Server) -> None:
    """elefast's own sessions have none there either."""
    for limit in LIMITS:
        server.ask(f"alter database postgres set {limit}")
    try:
        with open_stack() as stack:
            works(stack)
            time.sleep(IDLE)
            works(stack)
    finally:
        server.ask("alter database postgres reset all")


async def _works_async(stack: elefast.Stack) -> None:
    lent = stack.checkout("works")
    async with lent.async_engine.begin() as connection:
        await connection.exec_driver_sql("insert into note values ('a')")
    await lent.async_engine.dispose()
    lent.release()


@pytest.mark.fault("passwords of both kinds", how="roles made with password_encryption = md5 and scram-sha-256")
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000", "asyncpg"])
@pytest.mark.parametrize("encryption", ["md5", "scram-sha-256"])
def test_passwords(open_stack: Open, server: Server, driver: str, encryption: str) -> None:
    """Each driver gets in, and so do migrations."""
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(before.replace("scram-sha-256", "md5"))  # takes scram as well, where the role has that
    server.ask(f"alter system set password_encryption = '{encryption}'")
    server.ask("select pg_reload_conf()")
    try:
        with _role(server, "somebody") as url, open_stack(ELEFAST_ENGINE__URL=url.replace("psycopg", driver)) as stack:
            works(stack)
            if driver == "asyncpg":
                asyncio.run(_works_async(stack))
    finally:
        rules.write_text(before)
        server.ask("alter system reset all")
        server.ask("select pg_reload_conf()")

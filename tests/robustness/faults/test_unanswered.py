"""Clients that are interrupted while they connect: as long as the server waits for one of them, nothing can be dropped.

The server would give up after a minute, and write that down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import psycopg
import pytest

import elefast
from elefast import DatabaseServer
from elefast.postgres.urls import dsn
from tests.guarantees.projects.project_support import Project
from tests.integration.providers.provider_support import until
from tests.robustness.faults.conftest import Open, unkept, works
from tests.robustness.faults.proxy import Proxy
from tests.robustness.faults.server import Server

TEST = """
import os
from sqlalchemy import create_engine

def test_it(db):
    db.engine.connect().close()
    create_engine(db.url.set(port=int(os.environ["PROXY"]))).connect()
"""

SESSIONS = "select pid from pg_stat_activity where application_name like 'elefast run %'"

ASYNC_TEST = """
import os
from sqlalchemy.ext.asyncio import create_async_engine

async def test_it(async_db):
    async with async_db.engine.connect():
        pass
    await create_async_engine(async_db.url.set(port=int(os.environ["PROXY"]))).connect()
"""

Connect = Callable[[str], object]


@pytest.fixture
def connect(server: Server, proxy: Proxy) -> Connect:
    """Connects to a database, through the proxy."""
    return lambda name: psycopg.connect(dsn(server.url.set(port=proxy.port, database=name)))


@pytest.fixture(autouse=True)
def _as_on_a_terminal() -> Iterator[None]:
    """Whatever the shell that started these tests does with interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _soon(server: Server) -> Iterator[None]:
    """Nothing is left of the interrupted, and the server had not to wait for anybody."""
    before = len(server.log.read_text())
    yield
    assert unkept(server) == []
    assert "authentication due to timeout" not in server.log.read_text()[before:]


@contextmanager
def _interrupted(when: Callable[[], object]) -> Generator[None]:
    """Interrupt the block when that is true."""

    def interrupt() -> None:
        until(when)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            yield
    finally:
        thread.join()
    assert caught.tb  # somebody has it until here


def _hold(proxy: Proxy, database: str) -> None:
    """Let the server wait for the next client of such a database, and that for the server."""
    proxy.strike_at(f"database\0{database}", answer=True, hold=True)


@pytest.mark.fault("Ctrl-C while a test connects", how="SIGINT while a proxy holds back that a password is asked for")
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("test", [TEST, ASYNC_TEST], ids=["sync", "async"])
def test_a_test(project: Project, proxy: Proxy, test: str, workers: str) -> None:
    """The run ends at once, and its databases are gone."""
    project.write("test_it.py", test)
    _hold(proxy, "elefast")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-n", workers],
        cwd=project.path,
        env={**project.env, "PROXY": str(proxy.port)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        met = until(lambda: proxy.struck, 60)
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert met, out
    assert process.returncode == pytest.ExitCode.INTERRUPTED, out
    assert "KeyboardInterrupt" in out


@pytest.mark.fault(
    "Ctrl-C while a program connects",
    how="SIGINT while a proxy holds back that a password is asked for; in a stack's block",
)
def test_a_block_with_a_stack(open_stack: Open, proxy: Proxy, connect: Connect) -> None:
    """What is closed on the way out drops at once."""
    with _interrupted(lambda: proxy.struck), open_stack() as stack:
        _hold(proxy, "elefast")
        connect(stack.checkout("interrupted").name)


@pytest.mark.fault(
    "Ctrl-C while a program connects",
    how="SIGINT while a proxy holds back that a password is asked for; in a database's",
)
def test_a_block_with_a_database(server: Server, proxy: Proxy, connect: Connect) -> None:
    """Also where one database is all that is closed."""
    running = DatabaseServer(server.url)
    with _interrupted(lambda: proxy.struck), running.create_database() as database:
        _hold(proxy, "elefast")
        connect(database.name)


@pytest.mark.fault(
    "Ctrl-C while a coroutine connects", how="SIGINT while a proxy holds back that a password is asked for"
)
@pytest.mark.parametrize("of_a_stack", [True, False], ids=["stack", "database"])
def test_an_async_block(open_stack: Open, server: Server, proxy: Proxy, of_a_stack: bool) -> None:
    """What is closed on the way out drops at once; asyncio cancels what is awaited, and closes nothing."""

    async def connect(name: str) -> None:
        _hold(proxy, "elefast")
        await psycopg.AsyncConnection.connect(dsn(server.url.set(port=proxy.port, database=name)))

    async def work(stack: elefast.Stack) -> None:
        if of_a_stack:
            async with stack:
                await connect(stack.checkout("interrupted").name)
        else:
            async with await stack.async_server.create_database() as database:
                await connect(database.name)

    with open_stack() as stack, _interrupted(lambda: proxy.struck):
        asyncio.run(work(stack))


@pytest.mark.fault(
    "Ctrl-C while a template is built",
    how="SIGINT while a proxy holds back that a password is asked for of the migrator",
)
def test_a_build(open_stack: Open, proxy: Proxy, behind: dict[str, str]) -> None:
    """What was built so far is dropped at once, and the next one builds it."""
    with open_stack(**behind) as stack, _interrupted(lambda: proxy.struck):
        _hold(proxy, "elefast_b")
        stack.checkout("interrupted")
    with open_stack() as stack:
        works(stack)


@pytest.mark.fault("Ctrl-C while elefast connects", how="SIGINT while its session is set up, on a slow network")
def test_elefast_itself(server: Server, proxy: Proxy) -> None:
    """The session ends, also while somebody still has the traceback, and nobody has to wait for its lock."""
    known = server.ask(SESSIONS)

    def sessions() -> object:
        return set(server.ask(SESSIONS)).difference(known)

    proxy.delay = 0.1
    running = DatabaseServer(server.url.set(port=proxy.port))
    with _interrupted(sessions):
        running.ensure_is_ready()
    assert until(lambda: not sessions())
    running.ensure_is_ready()

"""However a run ends, and however many there are in one process, nothing stays behind."""

from __future__ import annotations

import os
from collections.abc import Callable

import psycopg
import pytest
from _pytest._code.code import ExceptionChainRepr

from elefast.pytest_plugin.interrupt_traceback import shorten_traceback

from .conftest import Project


@pytest.fixture
def left(server_url: str) -> Callable[[], set[str]]:
    """The databases on the server that were not there when the test began."""

    def look() -> set[str]:
        with psycopg.connect(server_url.replace("+psycopg", "")) as connection:
            return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}

    before = look()
    return lambda: look() - before


def test_several_sessions_in_one_process(project: Project, left: Callable[[], set[str]]) -> None:
    """Each has a stack of its own and closes it."""
    project.tests("def test_it(db, elefast_stack): elefast_stack.mark = not hasattr(elefast_stack, 'mark')")
    for _ in range(3):
        project.run().assert_outcomes(passed=1)
        assert left() == set()


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_a_run_that_stops_early(project: Project, left: Callable[[], set[str]], option: str) -> None:
    """The database of the failed test is released as all others."""
    project.tests("def test_a(db): assert False\ndef test_b(db): pass")
    project.run(option).assert_outcomes(failed=1)
    assert left() == set()


def test_a_run_that_is_interrupted(project: Project, left: Callable[[], set[str]]) -> None:
    """Ctrl-C during a test that has a connection open."""
    project.tests(
        "import os, signal, time\n"
        "from sqlalchemy import text\n"
        "def test_it(db_session):\n"
        "    db_session.execute(text('SELECT 1'))\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(10)\n"
        "def test_never(db): pass\n"
    )
    result = project.run_apart()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*- elefast -*", "*KeyboardInterrupt*"])
    assert left() == set()


@pytest.mark.parametrize("option", ["", "--full-trace"])
def test_an_interrupt_in_the_middle_of_elefast(project: Project, option: str) -> None:
    """It is shown where elefast was called: pytest takes long to render the rest, which is there for who asks."""
    project.file(
        "conftest.py",
        "from elefast.databases.manager import DatabaseManager\n"
        "def interrupted(manager, **keywords):\n"
        "    raise KeyboardInterrupt\n"
        "DatabaseManager.create = interrupted",
    )
    project.tests("def test_it(db): pass")
    result = project.run_apart(*option.split())
    assert result.ret == pytest.ExitCode.INTERRUPTED
    where = "*conftest.py:3: KeyboardInterrupt" if option else "*pytest_plugin*fixtures.py:*: KeyboardInterrupt"
    result.stdout.fnmatch_lines([where])
    assert ("pool.py" in result.stdout.str()) == bool(option)


def test_nobody_sees_the_interrupt_of_a_worker(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller of pytest-xdist has its own, so hardly anything is left to render."""
    monkeypatch.setattr(pytestconfig, "workerinput", {}, raising=False)
    try:
        try:
            raise ValueError
        except ValueError:
            _interrupting()
    except KeyboardInterrupt:
        interrupt = pytest.ExceptionInfo[BaseException].from_current()
    shorten_traceback(pytestconfig, interrupt)
    assert len(interrupt.traceback) == 1
    shown = interrupt.getrepr()
    assert isinstance(shown, ExceptionChainRepr)
    assert len(shown.chain) == 1


def _interrupting() -> None:
    raise KeyboardInterrupt


def test_a_conftest_that_breaks_at_import_leaves_no_stack_behind(
    project: Project, left: Callable[[], set[str]]
) -> None:
    """Also where it used one before it broke."""
    project.file("conftest.py", "import elefast\nelefast.from_config().server.create_database()\n1 / 0")
    project.tests("def test_it(db): pass")
    assert project.run().ret == pytest.ExitCode.USAGE_ERROR
    assert left() == set()


def test_a_stack_that_only_a_conftest_uses_is_closed(project: Project) -> None:
    """And the summary tells what it used."""
    project.file("conftest.py", "import elefast\nSTACK = elefast.from_config()\nSTACK.server.create_database()")
    project.tests("def test_it(): pass")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["provider  url *"])


def test_pdb_finds_the_database_alive(project: Project) -> None:
    """A debugger after a failure can look at the data."""
    project.file(
        "debugger.py",
        "import sys\n"
        "class Pdb:\n"
        "    def __init__(self, *args, **kwargs): pass\n"
        "    def reset(self): pass\n"
        "    def interaction(self, frame, problem):\n"
        "        traceback = getattr(problem, '__traceback__', problem)  # Python 3.13: the exception itself\n"
        "        while traceback.tb_next: traceback = traceback.tb_next\n"
        "        db = traceback.tb_frame.f_locals['db']\n"
        "        with db.engine.connect() as connection:\n"
        "            print('ALIVE', connection.exec_driver_sql('SELECT 4711').scalar())\n",
    )
    project.tests("def test_it(db): assert False")
    result = project.run_apart("--pdb", "--pdbcls=debugger:Pdb", "-s")
    result.stdout.fnmatch_lines(["*ALIVE 4711*"])


def test_eight_workers_from_a_cold_start(project: Project) -> None:
    """All of them at once on a server of their own that does not run yet; one template is built."""
    project.configure('provider = "local"\nlocal.reuse = false\n[tool.elefast.sql]\nfiles = ["schema.sql"]', url=False)
    project.file("schema.sql", "CREATE TABLE cold ();")
    project.tests(
        "import pytest\n"
        "from sqlalchemy import text\n"
        "@pytest.mark.parametrize('n', range(16))\n"
        "def test_it(db_session, n): db_session.execute(text('SELECT FROM cold'))\n"
    )
    result = project.run_apart("-n", "8", "--elefast-report")
    result.assert_outcomes(passed=16)
    result.stdout.fnmatch_lines(["provider  local *", "databases 16, *", "cost *(1 build *"])
    assert "DATABASE_URL" not in os.environ

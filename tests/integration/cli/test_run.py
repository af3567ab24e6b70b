"""`elefast run`: a database for any program, and nothing left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from elefast.postgres.names import Kind, Name

Names = Callable[[], set[str]]

LOOK = "import json, os; print(json.dumps(dict(os.environ)))"
QUERY = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    print(connection.execute("select count(*) from note").fetchone()[0])
"""


def not_templates(names: set[str]) -> set[str]:
    """Those that a run does not leave on purpose."""
    return {name for name in names if not ((made := Name.parse(name)) and made.kind is Kind.TEMPLATE)}


def elefast_run(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "elefast.cli", "run", *words],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.usefixtures("inside")
def test_the_database_is_migrated_and_gone_afterwards(project: Path, names: Names) -> None:
    """The command has the output for itself."""
    before = names()
    done = elefast_run("--", sys.executable, "-c", QUERY, cwd=project)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert not_templates(names() - before) == set()


@pytest.mark.usefixtures("inside")
def test_variables(project: Path) -> None:
    """libpq's own, DATABASE_URL as libpq has it, those of export_env and those that are asked for."""
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(
        text.replace("[tool.elefast]\n", '[tool.elefast]\nexport_env = ["APP_DB"]\n')
    )
    done = elefast_run("--env", "APP_ASYNC=postgresql+asyncpg", sys.executable, "-c", LOOK, cwd=project)
    told = json.loads(done.stdout)
    assert told["DATABASE_URL"].startswith("postgresql://")
    assert told["APP_DB"].startswith("postgresql+psycopg://")
    assert told["APP_ASYNC"].startswith("postgresql+asyncpg://")
    assert told["DATABASE_URL"].endswith(told["PGDATABASE"])
    assert {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD"} <= told.keys()


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["/nowhere/at-all"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_the_exit_status_is_the_commands(project: Path, names: Names, command: list[str], status: int) -> None:
    """As shells have it, and the database goes whatever happened."""
    before = names()
    done = elefast_run("--", *command, cwd=project)
    assert done.returncode == status, done.stderr
    if status in (126, 127):
        assert command[0] in done.stderr
    assert not_templates(names() - before) == set()


@pytest.mark.usefixtures("inside")
def test_no_command_is_a_clear_error(project: Path) -> None:
    """With an example, and before anything is started."""
    done = elefast_run(cwd=project)
    assert done.returncode == 2
    assert "elefast run -- npx playwright test" in done.stderr


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_and_the_database_goes(project: Path, names: Names, number: signal.Signals) -> None:
    """The command may end as it likes; elefast waits for it, and then cleans up."""
    program = (
        "import signal, sys, time\n"
        f"signal.signal({number:d}, lambda *_: sys.exit(42))\n"
        "print('there', flush=True)\n"
        "time.sleep(60)\n"
    )
    before = names()
    process = subprocess.Popen(
        [sys.executable, "-m", "elefast.cli", "run", "--", sys.executable, "-c", program],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "there\n"
    process.send_signal(number)
    assert process.wait(30) == 42
    process.stdout.close()
    assert not_templates(names() - before) == set()


@pytest.mark.usefixtures("inside")
def test_what_a_kill_leaves_goes_with_the_next_run(project: Path, names: Names) -> None:
    """SIGKILL gives nobody a chance; the sign of life ends with the process."""
    before = names()
    process = subprocess.Popen(
        [sys.executable, "-m", "elefast.cli", "run", "--", "sh", "-c", "echo there; exec sleep 30"],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "there\n"
    process.kill()
    process.wait()
    os.killpg(process.pid, signal.SIGKILL)  # the command, which nobody waits for any more
    process.stdout.close()
    left = not_templates(names() - before)
    assert len(left) == 1
    deadline = time.monotonic() + 20  # the server notices when the connection ends
    while left & names() and time.monotonic() < deadline:
        assert elefast_run("--", "true", cwd=project).returncode == 0
    assert not left & names()


@pytest.mark.usefixtures("inside")
def test_two_at_once_do_not_meet(project: Path) -> None:
    """Each has a database of its own."""
    program = (
        "import os, psycopg, time\n"
        "c = psycopg.connect(os.environ['DATABASE_URL'], autocommit=True)\n"
        "c.execute(\"insert into note values ('x')\")\n"
        "time.sleep(1)\n"
        "print(c.execute('select count(*) from note').fetchone()[0])\n"
    )
    command = [sys.executable, "-m", "elefast.cli", "run", "--", sys.executable, "-c", program]
    both = [subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["1\n", "1\n"]


@pytest.mark.usefixtures("inside")
def test_keep_leaves_it_and_says_how_to_open_it(project: Path, names: Names) -> None:
    """On the standard error, since the output is the command's."""
    done = elefast_run("--keep", "--", "true", cwd=project)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kept ")]
    assert line.split()[1] in names()
    assert "psql " in done.stderr
    assert done.stdout == ""

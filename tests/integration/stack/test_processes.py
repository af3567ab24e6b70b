"""Many processes at once, and processes that are killed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

Names = Callable[[], set[str]]
Start = Callable[..., "subprocess.Popen[str]"]

USE = """
import elefast
from sqlalchemy import text
with elefast.from_config() as stack:
    for _ in range(5):
        lent = stack.checkout()
        with lent.sync.session() as session:
            assert session.scalar(text("select count(*) from note")) == 0
            session.execute(text("insert into note values ('x')"))
            session.commit()
        lent.release()
    print(stack.report().builds)
"""


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What each process printed; all must have gone well."""
    done = [process.communicate(timeout=120) for process in processes]
    assert [(process.returncode, err) for process, (_, err) in zip(processes, done, strict=True)] == [(0, "")] * len(
        done
    )
    return [out.strip() for out, _ in done]


def test_eight_processes_on_a_cold_server_build_one_template(start: Start, names: Names) -> None:
    """They start at the same moment; one migrates, seven wait for it, nothing but the template is left."""
    before = names()
    built = finish([start(USE) for _ in range(8)])
    assert sorted(built) == ["0"] * 7 + ["1"]
    assert len(names() - before) == 1


def test_a_failure_is_shared_by_the_workers_of_a_run(start: Start, project: Path, server_url: str) -> None:
    """All workers report the same error; the migration ran once, since what it does outside shows it."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        (project / "schema.sql").write_text(
            "select pg_sleep(0.5);\ncreate role tried_once;\nselect no_such_function();\n"
        )
        program = (
            "import elefast, pathlib; from elefast.config import current_run as run\n"
            "run.enter(run.CurrentRun(start=pathlib.Path.cwd(), test_run='one run'))\n"
            "stack = elefast.from_config()\n"
            "try: stack.checkout()\n"
            "except elefast.ElefastError as error:\n"
            "    print('no_such_function' in str(error), 'already exists' in str(error))\n"
            "import time; time.sleep(2)\n"
        )
        try:
            assert finish([start(program) for _ in range(4)]) == ["True False"] * 4
        finally:
            connection.execute("drop role tried_once")


# What a process has done when it is killed: the points are spread over start, build, clone, use and drop.
@pytest.mark.parametrize("after", [0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5])
def test_a_killed_process_leaves_a_next_run_that_just_works(
    start: Start, project: Path, names: Names, after: float
) -> None:
    """Whatever the moment, the next run finds or builds a right template, and sweeps what was left."""
    (project / "schema.sql").write_text(
        f"select pg_sleep(0.1);\ncreate table note (body text);\nselect pg_sleep(0.1);\n-- {project} {after}\n"
    )
    before = names()
    victim = start(USE.replace("range(5)", "range(500)"))
    time.sleep(after)
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=30)
    (built,) = finish([start(USE)])
    assert built in ("0", "1")
    # The server notices the death of a client in its own time, so a database may need one more run.
    deadline = time.monotonic() + 10
    while len(names() - before) > 1 and time.monotonic() < deadline:
        finish([start(USE)])
    assert len(names() - before) == 1

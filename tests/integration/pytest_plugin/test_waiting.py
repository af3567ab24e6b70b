"""A long wait for the template shows on standard error: one line in a log, a line that is drawn again on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from elefast.runtime import progress, terminal

from .conftest import Project

SLOW = """
import time
from sqlalchemy import Connection, text

def fill(connection: Connection) -> None:
    time.sleep(3)
    connection.execute(text("CREATE TABLE {name} ()"))
"""

ENV = """
from alembic import context

with context.config.attributes["connection"].begin() as transaction:
    context.configure(connection=context.config.attributes["connection"])
    context.run_migrations()
"""

REVISION = """
import time
from alembic import op

revision, down_revision = {revision!r}, {before!r}

def upgrade():
    time.sleep(2)
    op.execute("CREATE TABLE waited_{revision} ()")
"""


def _slow(project: Project, name: str) -> None:
    """A project whose template takes more than three seconds."""
    project.configure('migrator = "callable"\n[tool.elefast.callable]\ntarget = "slow:fill"')
    project.file("slow.py", SLOW.format(name=name))
    _tests(project)


def _tests(project: Project) -> None:
    project.tests("import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_it(db, n): pass\n")


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_log_gets_one_line(project: Project, options: tuple[str, ...]) -> None:
    """Also with `-q`, while pytest captures, and with several workers that wait for the same build."""
    _slow(project, f"a_log_{len(options)}")
    result = project.run_apart("-q", *options)
    result.assert_outcomes(passed=4)
    result.stderr.fnmatch_lines(["elefast: building the template*..."])
    assert str(result.stderr).count("elefast:") == 1
    assert "\x1b" not in str(result.stderr)
    result.stdout.no_fnmatch_line("*building the template*")
    # A template that is there needs no wait.
    assert "elefast:" not in str(project.run_apart("-q", *options).stderr)


def test_json_is_not_disturbed(project: Project) -> None:
    """A program reads the output, maybe both streams in one."""
    _slow(project, "for_json")
    command = [sys.executable, "-c", "import sys; from elefast.cli import main; sys.exit(main())", "template", "build"]
    run = subprocess.run([*command, "--json"], cwd=project.path, capture_output=True, text=True, check=True)
    assert '"built": true' in run.stdout
    assert run.stderr == ""
    run = subprocess.run([*command, "--force"], cwd=project.path, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\nelefast: building the template( \(slow:fill\))? \.\.\.\n", run.stderr)


def test_a_terminal_shows_the_revision(project: Project) -> None:
    """The line counts the revisions, and is removed when the template is there."""
    project.configure('migrator = "alembic"')
    project.file("alembic.ini", "[alembic]\nscript_location = migrations\npath_separator = os\n")
    project.file("migrations/env.py", ENV)
    for number in range(1, 4):
        before = f"r{number - 1}" if number > 1 else None
        project.file(f"migrations/versions/r{number}.py", REVISION.format(revision=f"r{number}", before=before))
    _tests(project)
    shown = _on_a_terminal([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], project.path)
    assert "4 passed" in shown
    steps = re.findall(r"elefast: building the template \(alembic upgrade heads: (\d) of 3\), \d+ s\x1b8", shown)
    assert steps[-1] == "3"
    assert steps == sorted(steps)
    last = shown.rindex("elefast: building")
    assert shown[last:].partition("\x1b8")[2].startswith("\x1b7\x1b[B\r\x1b[K\x1b8")


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_a_build_may_take_longer_than_a_test(project: Project, method: str) -> None:
    """It runs once, and the limit of pytest-timeout begins anew when it has ended."""
    _slow(project, f"longer_{method}")
    project.file("slow.py", SLOW.format(name=f"longer_{method}").replace("sleep(3)", "sleep(9)"))
    project.file("test_late.py", "import time\ndef test_late(db): time.sleep(60)")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += [f"--timeout-method={method}", "--timeout=6"]
    quick = subprocess.run([*command, "test_it.py"], cwd=project.path, capture_output=True, text=True, check=False)
    assert quick.returncode == 0, quick.stdout + quick.stderr
    assert "4 passed" in quick.stdout
    late = subprocess.run(
        [*command, "--elefast-rebuild", "test_late.py"], cwd=project.path, capture_output=True, text=True, check=False
    )
    assert late.returncode == 1
    assert "Timeout" in late.stdout + late.stderr
    assert "elefast was" not in late.stdout


def test_a_test_that_is_ended_names_the_build(project: Project) -> None:
    """What ends a test, such as the alarm here, says nothing of what a fixture waited for."""
    _slow(project, "ended")
    project.file("slow.py", SLOW.format(name="ended").replace("sleep(3)", "sleep(60)"))
    project.file(
        "conftest.py",
        """
import signal, pytest
def ended(*_): pytest.fail("took too long")
def pytest_runtest_setup():
    signal.signal(signal.SIGALRM, ended)
    signal.alarm(5)
""",
    )
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-p", "no:randomly"]
    run = subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "took too long" in run.stdout
    assert re.search(r"elefast was building the template \(slow:fill\), \d+ s when this test was ended", run.stdout)
    assert "elefast up" in run.stdout


def _on_a_terminal(command: list[str], directory: Path) -> str:
    """What a program shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("CI", None)
    try:
        process = subprocess.Popen(command, cwd=directory, stdout=theirs, stderr=theirs, env=environment)
    finally:
        os.close(theirs)
    shown = b""
    try:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
    finally:
        os.close(ours)
        process.wait(60)
    return shown.decode()


# -- in this process -----------------------------------------------------------------------------------------------


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What stands in for the standard error; waits are shown at once."""
    stream = io.StringIO()
    monkeypatch.setattr(terminal, "standard_error", lambda: nullcontext(stream))
    monkeypatch.setattr(progress, "DELAY", 0.0)
    for name in ("PYTEST_XDIST_WORKER", "CI"):
        monkeypatch.delenv(name, raising=False)
    return stream


def _until_shown(stream: io.StringIO) -> str:
    deadline = time.monotonic() + 20
    while not stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    return stream.getvalue()


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "elefast-wait"]


def test_a_short_wait_shows_nothing(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no thread."""
    monkeypatch.setattr(progress, "DELAY", 60.0)
    with progress.show("a short one", workers="all"):
        assert len(_threads()) == 1
    assert not _threads()
    assert stream.getvalue() == ""


def test_a_failed_wait_leaves_no_thread(stream: io.StringIO) -> None:
    """An interrupt comes as an exception, too."""

    def interrupted() -> None:
        with progress.show("one", workers="all"):
            assert _until_shown(stream) == "\nelefast: one ...\n"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not _threads()


def test_it_waits_for_what_is_shown_instead(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pull of an image shows its own progress."""
    monkeypatch.setattr(progress, "DELAY", 0.5)
    with progress.show("the server", workers="all"):
        with progress.paused():
            time.sleep(1)
            assert stream.getvalue() == ""
        assert _until_shown(stream) == "\nelefast: the server ...\n"


@pytest.mark.parametrize(
    ("workers", "worker", "shows"),
    [
        ("all", "gw1", True),
        ("first", "gw0", True),
        ("first", "gw1", False),
        ("none", "gw0", False),
        ("none", "", True),
    ],
)
def test_one_worker_shows_it(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, workers: str, worker: str, shows: bool
) -> None:
    """All workers wait for the same server."""
    monkeypatch.setattr(progress, "DELAY", 60.0)
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    with progress.show("it", workers=workers):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert bool(_threads()) is shows

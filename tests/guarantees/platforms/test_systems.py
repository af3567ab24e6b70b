"""What differs between systems, with the other system's answers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from elefast.cli.check.machine import MachineProbes
from elefast.cli.init import write_files
from elefast.cli.run import _has_had_it
from elefast.config import load_settings
from elefast.providers import DockerProvider, running_servers, stop_containers
from elefast.runtime import cache_dir, event_loops

# What Python on Windows has not; taken away once those have it who know that this is no Windows.
_WITHOUT = """
import asyncio, concurrent.futures, importlib, multiprocessing, os, pkgutil, shutil, signal, subprocess, sys, tempfile
import platformdirs, pytest  # which ask what system this is, and believe it

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("chown", "fork", "getegid", "geteuid", "getgid", "getuid", "getpgid", "killpg", "pread", "pwrite",
             "register_at_fork", "setsid", "setuid", "statvfs", "uname"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1"):
    delattr(signal, name)
"""
_IMPORTS = (
    _WITHOUT
    + """
import elefast

names = [found.name for found in pkgutil.walk_packages(elefast.__path__, "elefast.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
)
_RUN = (
    _WITHOUT
    + """
assert pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:faulthandler"]) == 0
from elefast.cli import main

assert main(["check"]) == 0
assert main(["ls"]) == 0
assert main(["run", sys.executable, "-c", "pass"]) == 0
assert main(["init", "--no-run", "--yes"]) == 0
"""
)
_TESTS = """
import asyncio
from sqlalchemy import text
COUNT = text("SELECT count(*) FROM note")

def test_sync(db_session):
    assert db_session.scalar(COUNT) == 1

def test_async(async_db):
    async def count():
        async with async_db.session() as session:
            return await session.scalar(COUNT)
    assert asyncio.run(count()) == 1
"""


def _python(code: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_module_can_be_imported_without_what_windows_has_not(tmp_path: Path) -> None:
    """No module of POSIX at the top of one of ours; what needs it is not reached there."""
    done = _python(_IMPORTS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


@pytest.mark.parametrize("isolation", ["database", "transaction"])
def test_tests_run_on_a_server_that_is_named_without_what_windows_has_not(
    server_url: str, tmp_path: Path, isolation: str
) -> None:
    """The whole way of `provider = "url"`: templates, the pool, code of the project, the commands."""
    tmp_path.joinpath("pyproject.toml").write_text(
        f"""
[project]
name = "without"
version = "1"
[tool.pytest.ini_options]
strict = true
filterwarnings = ["error"]
pythonpath = ["."]
asyncio_default_fixture_loop_scope = "function"
[tool.elefast]
provider = "url"
engine.url = "{server_url}"
isolation = "{isolation}"
callable.target = "schema:create"
seed = ["schema:fill"]
"""
    )
    tmp_path.joinpath("schema.py").write_text(
        "def create(connection):\n    connection.exec_driver_sql('CREATE TABLE note (body text)')\n"
        "async def fill(connection):\n    await connection.exec_driver_sql(\"INSERT INTO note VALUES ('a')\")\n"
    )
    tmp_path.joinpath("test_it.py").write_text(_TESTS)
    done = _python(_RUN, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_loops_of_our_own_can_be_used_by_psycopg() -> None:
    """On Windows not the usual one; elsewhere what the project's policy says."""
    make = event_loops.loop_factory("win32")
    assert make is not None
    loop = make()
    loop.close()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert event_loops.loop_factory("linux") is event_loops.loop_factory("darwin") is None


def test_files_are_ours_where_there_are_no_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are, by owner and mode."""
    file = tmp_path / "file"
    file.touch(0o644)
    assert cache_dir.is_private(file.stat(), 0o022)
    assert not cache_dir.is_private(file.stat(), 0o044)
    monkeypatch.delattr(os, "geteuid")
    assert cache_dir.is_private(file.stat(), 0o044)


def test_a_configuration_is_written_where_files_have_no_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere else."""
    file = tmp_path / "pyproject.toml"
    file.write_text("a = 1\n")
    monkeypatch.delattr(os, "chown")
    write_files.append(file, "a = 1\n", "[tool.elefast]\n")
    assert file.read_text() == "a = 1\n\n[tool.elefast]\n"


def test_who_has_had_ctrl_c() -> None:
    """The terminal's group, and on Windows all who share the console."""
    assert _has_had_it(terminal=True, platform="linux")
    assert not _has_had_it(terminal=False, platform="darwin")
    assert _has_had_it(terminal=False, platform="win32")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp1252:surrogateescape"])
@pytest.mark.parametrize("command", ["--help", "explain no-server"])
def test_an_output_that_has_not_every_character(tmp_path: Path, command: str, encoding: str) -> None:
    """What it can show is shown."""
    code = f"import sys; from elefast.cli import main; sys.exit(main({command.split()}))"
    done = _python(code, tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 100


def test_windows_has_no_servers_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for them is told so, also where an engine could be asked."""
    tmp_path.joinpath("elefast.toml").write_text('provider = "auto"\n')
    settings = load_settings(tmp_path, env={}).settings
    monkeypatch.setattr(sys, "platform", "win32")
    assert running_servers() == []
    assert stop_containers({"DOCKER_HOST": "npipe:////./pipe/docker_engine"}) == []
    assert not DockerProvider(reuse=True, env={"DOCKER_HOST": "npipe:////./pipe/docker_engine"}).running()
    machine = MachineProbes(settings)
    assert "not supported on Windows" in str(machine.binaries())
    assert "not supported on Windows" in str(machine.memory())

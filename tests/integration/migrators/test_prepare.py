"""The interpreter that builds a template starts before the server does, and runs no code of the project until then."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import URL

import elefast
from elefast.migrators import Function, Plan, Sql
from tests.integration.migrators.migrator_support import Project, tables
from tests.integration.providers.provider_support import processes_below, until

_TESTING = """\
import os, sys
from pathlib import Path
from sqlalchemy import text

def create(connection):
    Path("ran").write_text(f"{os.getpid()} {os.environ.get('SAID_LATER')} {os.environ['PGDATABASE']}")
    connection.execute(text("CREATE TABLE made (id int)"))
"""


def waiting(plan: Plan) -> int:
    """The process that `prepare` has started."""
    assert plan._prepared
    return plan._prepared._process.pid


def is_alive(pid: int) -> bool:
    """Whether the process exists, and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_prepared_interpreter_builds_with_the_files_and_variables_of_that_moment(
    project: Project, template: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code of the project runs once there is a database, and is observed."""
    project.write("testing.py", _TESTING)
    plan = Plan(root=project.root, migrator=Function("testing:create"))
    plan.prepare()
    pid = waiting(plan)
    plan.prepare()
    assert waiting(plan) == pid
    time.sleep(0.3)
    assert not (project.root / "ran").exists()
    project.write("testing.py", _TESTING.replace("made", "made_of_what_is_there_now"))
    monkeypatch.setenv("SAID_LATER", "yes")

    manifest = plan.build(template)

    assert (project.root / "ran").read_text() == f"{pid} yes {template.database}"
    assert tables(template) == ["made_of_what_is_there_now"]
    assert "testing.py" in manifest.files
    assert {"sqlalchemy", "psycopg"} <= {name.lower() for name in manifest.distributions}
    assert not is_alive(pid)
    assert plan._prepared is None


def test_an_interpreter_that_is_not_needed_ends_without_running_code(project: Project) -> None:
    """It ends in `stop_preparation`, which may be called twice."""
    project.write("testing.py", _TESTING)
    plan = Plan(root=project.root, migrator=Function("testing:create"))
    plan.prepare()
    pid = waiting(plan)
    plan.stop_preparation()
    plan.stop_preparation()
    assert not is_alive(pid)
    assert not (project.root / "ran").exists()


def test_a_prepared_interpreter_with_another_import_path_is_replaced(
    project: Project, template: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would import other modules than this process does now."""
    project.write("testing.py", _TESTING)
    plan = Plan(root=project.root, migrator=Function("testing:create"))
    plan.prepare()
    pid = waiting(plan)
    monkeypatch.syspath_prepend(str(project.root / "elsewhere"))
    plan.build(template)
    assert int((project.root / "ran").read_text().split()[0]) != pid
    assert not is_alive(pid)


def test_no_interpreter_is_prepared_without_code_of_the_project(project: Project) -> None:
    """This process runs SQL files itself."""
    project.write("schema.sql", "CREATE TABLE made (id int)")
    plan = Plan(root=project.root, migrator=Sql(("schema.sql",)))
    plan.prepare()
    assert plan._prepared is None


def test_a_prepared_interpreter_ends_with_the_process_that_started_it(project: Project) -> None:
    """Even if that process is killed."""
    project.write("testing.py", _TESTING)
    code = (
        "import os, signal; from pathlib import Path; from elefast.migrators import Function, Plan\n"
        "plan = Plan(root=Path('.'), migrator=Function('testing:create')); plan.prepare()\n"
        "print(plan._prepared._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stack_prepares_an_interpreter_for_a_new_server_only(
    project: Project, elefast_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No prepared interpreter is left once there is a template."""
    project.write("testing.py", _TESTING)
    project.write("pyproject.toml", '[tool.elefast]\nprovider = "local"\ncallable.target = "testing:create"\n')
    started: list[str] = []
    prepare = Plan.prepare

    def noted(self: Plan) -> None:
        started.append("prepared")
        prepare(self)

    root = elefast_root / "prepared"
    root.mkdir()
    root.chmod(0o711)
    monkeypatch.setattr(Plan, "prepare", noted)
    monkeypatch.setenv("_ELEFAST_ROOT", str(root))
    try:
        for _ in range(2):  # the second run finds the data directory, and a template in it
            with elefast.from_config(project.root, local={"reuse": True}) as stack:
                stack.server.create_database().drop()
                assert stack.migrator
                assert stack.migrator._prepared is None
            assert started == ["prepared"]
    finally:
        until(lambda: not processes_below(root))
        shutil.rmtree(root)

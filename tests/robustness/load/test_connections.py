"""A server of elefast's own has connections enough for many workers."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elefast.providers.tuning import server_settings
from tests.guarantees.projects.project_support import Project
from tests.integration.providers.provider_support import processes_below, until

WORKERS = 16
EACH = 5
"""Connections that each test has at once: as many as its engine keeps, by `engine.pool_size`."""
CONFIGURATION = """
[project]
name = "many"
[tool.elefast]
provider = "local"
migrator = "sql"
sql.files = ["schema.sql"]
local.reuse = false
"""
TESTS = f"""
import os
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
QUERY = "select count(*) from pg_stat_activity where backend_type = 'client backend'"

def wait_for_all(step):
    (HERE / f"{{step}}-{{os.environ['PYTEST_XDIST_WORKER']}}").touch()
    deadline = time.monotonic() + 60
    while len(list(HERE.glob(f"{{step}}-gw*"))) < {WORKERS}:
        assert time.monotonic() < deadline
        time.sleep(0.05)

@pytest.mark.parametrize("step", ["first", "second"])
def test_it(db, step):
    held = [db.engine.connect() for _ in range({EACH})]
    wait_for_all(step)
    count = held[0].exec_driver_sql(QUERY).scalar()
    (HERE / f"count-{{step}}-{{os.environ['PYTEST_XDIST_WORKER']}}").write_text(str(count))
    wait_for_all(step + "-counted")
    for connection in held:
        connection.close()
"""


@pytest.mark.fault("many workers with pools", how=f"pytest -n {WORKERS}, {EACH} connections in each test at once")
@pytest.mark.skipif(sys.platform == "win32", reason="elefast starts no server on Windows")
def test_enough_for_sixteen_workers(
    elefast_root: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """All workers are in a test at once, with an engine's pool of connections each and databases made ahead."""
    root = elefast_root / "many"
    root.mkdir(mode=0o711)
    env = {"_ELEFAST_ROOT": str(root), "ELEFAST_LOCAL__BIN_DIR": os.environ.get("TEST_POSTGRES_BIN", "")}
    project = Project(tmp_path, {**os.environ, **env, "PYTHONDONTWRITEBYTECODE": "1"})
    project.write("pyproject.toml", CONFIGURATION)
    project.write("schema.sql", "create table note (body text);\n")
    project.write("test_it.py", TESTS)
    said = project.pytest(f"-n{WORKERS}", "--dist=each").text
    assert f"{2 * WORKERS} passed" in said
    assert until(lambda: not processes_below(root), 30)
    shutil.rmtree(root)
    most = max(int(path.read_text()) for path in tmp_path.glob("count-*"))
    allowed = int(server_settings()["max_connections"])
    # Some are PostgreSQL's superusers' own.
    assert WORKERS * (EACH + 1) <= most < allowed - 10
    record_property("happened", f"{most} connections at once of the {allowed} that it has")

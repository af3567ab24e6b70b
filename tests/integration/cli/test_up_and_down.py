"""`elefast up` and `down` with a server of elefast's own, and what other commands say when it does not run."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

Elefast = Callable[..., subprocess.CompletedProcess[str]]

QUERY = """
import os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    print(connection.execute("select count(*) from note").fetchone()[0])
"""


@pytest.fixture
def own(project: Path, env: dict[str, str], elefast_root: Path) -> Iterator[Elefast]:
    """Run a command in a project with a local server of its own, which is down at the end, with its data."""
    root = Path(tempfile.mkdtemp(dir=elefast_root))
    root.chmod(0o711)  # the server runs as somebody else where the tests run as root
    env = {**env, "ELEFAST_ENGINE__URL": "", "ELEFAST_PROVIDER": "local", "_ELEFAST_ROOT": str(root)}

    def elefast(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "elefast.cli", *words]
        return subprocess.run(command, cwd=project, env={**env, **more}, capture_output=True, text=True, timeout=120)

    yield elefast
    elefast("down")
    shutil.rmtree(root)


def test_without_a_server(own: Elefast) -> None:
    """Nothing is started by asking; url says what to do."""
    status = own("status", "--json")
    assert json.loads(status.stdout) == {"running": False, "project": "stack-tests"}, status.stderr
    url = own("url")
    assert url.returncode == 3
    assert "Start it first: elefast up" in url.stderr
    assert "more: elefast explain server-not-running" in url.stderr
    assert not json.loads(own("status", "--json").stdout)["running"]


@pytest.mark.parametrize("reuse", ["true", "false"])
def test_up_stays_until_down(own: Elefast, reuse: str) -> None:
    """Also where the data would not stay; the template is there before the first test."""
    kept = {"ELEFAST_LOCAL__REUSE": reuse}
    first = json.loads(own("up", "--json", **kept).stdout)
    assert (first["started"], first["provider"]) == (True, "local")
    assert first["template_reason"].startswith("built")
    assert first["url"].startswith("postgresql://postgres:***@")
    again = json.loads(own("up", "--json", **kept).stdout)
    assert (again["started"], again["template"]) == (False, first["template"])
    assert json.loads(own("status", "--json", **kept).stdout)["databases"]["template"] == 1
    url = own("url", **kept).stdout.strip()
    with psycopg.connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert own("run", "--", sys.executable, "-c", "pass", **kept).returncode == 0
    down = json.loads(own("down", "--json", **kept).stdout)
    assert [server["data_dir"] for server in down["servers"]]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    assert not json.loads(own("status", "--json", **kept).stdout)["running"]


def test_down_says_what_is_in_use(own: Elefast, project: Path) -> None:
    """A command that runs keeps its server; it is not left running beyond that."""
    own("up", "--no-template")
    down = f"{sys.executable} -m elefast.cli down --json"
    inside = own("run", "--", "sh", "-c", f"{down} && {sys.executable} -c {shlex.quote(QUERY)}")
    told, end = json.JSONDecoder().raw_decode(inside.stdout)
    assert (told["servers"], len(told["in_use"])) == ([], 1), inside.stderr
    assert inside.stdout[end:].strip() == "0"
    assert not json.loads(own("status", "--json").stdout)["running"]


def test_without_psql_the_error_has_the_url_and_not_its_password(own: Elefast, tmp_path: Path) -> None:
    """No psql on the PATH and none beside a server's binaries."""
    empty = tmp_path / "empty"
    empty.mkdir()
    own("up", "--no-template")
    url = own("url").stdout.strip()
    asked = own(
        "psql", PATH=str(empty), ELEFAST_PROVIDER="url", ELEFAST_ENGINE__URL=url, ELEFAST_LOCAL__BIN_DIR=str(empty)
    )
    assert asked.returncode == 3
    assert "there is no psql here" in asked.stderr
    assert ":***@" in asked.stderr
    assert url.partition("@")[0].rpartition(":")[2] not in asked.stderr


def test_up_without_a_template(own: Elefast) -> None:
    """Only the server."""
    told = json.loads(own("up", "--no-template", "--json").stdout)
    assert told["template"] is None
    assert "template" not in json.loads(own("status", "--json").stdout)["databases"]


def test_a_failed_build_leaves_no_server_running(own: Elefast, project: Path) -> None:
    """The error is that of the migration, with its exit status."""
    (project / "schema.sql").write_text("create table broken (;\n")
    failed = own("up")
    assert failed.returncode == 5
    assert "schema.sql" in failed.stderr
    assert not json.loads(own("status", "--json").stdout)["running"]

"""`elefast check`: each probe good and bad, against real things."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import elefast
from elefast.cli import main
from elefast.cli.check._probe import Probe, ProbeReport, good, run_all

PROJECT = '[project]\nname = "checked"\n[tool.elefast]\nsql.files = ["schema.sql"]\n'
Checked = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def here(tmp_path: Path, server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with one SQL file as the working directory, on the server of these tests."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "checked"\n[tool.elefast]\nsql.files = ["schema.sql"]\n'
    )
    (tmp_path / "schema.sql").write_text(f"create table note (body text); -- {tmp_path}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELEFAST_ENGINE__URL", server_url)
    yield tmp_path
    for name in ("pyproject.toml", "elefast.toml"):
        (tmp_path / name).unlink(missing_ok=True)
    with elefast.from_config(env={}, engine={"url": server_url}) as stack:
        stack.admin().prune(templates=True)


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str]) -> Checked:
    """Run the command; its findings by probe."""

    def check(*words: str, status: int = 0) -> dict[str, dict[str, Any]]:
        capsys.readouterr()
        found = main(["check", "--json", *words])
        written = capsys.readouterr()
        assert found == status, written.out + written.err
        return {finding["probe"]: finding for finding in json.loads(written.out)}

    return check


def test_all_is_well(here: Path, checked: Checked) -> None:
    """Nothing is built, and nothing is said to be wrong."""
    found = checked()
    assert {name for name, finding in found.items() if finding["status"] == "failed"} == set()
    assert found["template"]["fact"] == "would be built: there was none yet"
    assert found["server"]["status"] == "ok"
    assert found["docker"]["status"] == found["binaries"]["status"] == "skipped"
    assert set(found["server"]) == {"probe", "status", "fact", "remedy"}


def test_start_tries_everything(here: Path, checked: Checked) -> None:
    """A template and a database are really made."""
    found = checked("--start")
    assert found["template"]["fact"].startswith("built")
    assert found["one database"]["fact"].startswith("made, connected to with postgresql+psycopg, dropped")
    assert checked()["template"]["fact"].startswith("reused")


def test_the_doctor_is_the_same_and_shows_marks_and_remedies(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people: a mark, a fact, and what to do."""
    (here / "elefast.toml").write_text("pool.sizes = 1\n")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "✓ versions" in out
    assert "✗ configuration" in out
    assert 'did you mean "size"?' in out
    assert "→ elefast config --origin" in out
    assert "1 wrong: configuration" in out


def test_plain_output_where_marks_cannot_be_shown(here: Path) -> None:
    """An ASCII terminal, a log."""
    done = subprocess.run(
        [sys.executable, "-m", "elefast.cli", "check"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"},
        capture_output=True,
        check=True,
    )
    assert b"ok versions" in done.stdout
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("toml", "probe", "fact"),
    [
        ('metadata.target = "nowhere:Base"\nmigrator = "metadata"', "targets", 'there is no module "nowhere"'),
        ('seed = ["seeds:load"]', "targets", 'there is no module "seeds"'),
        ('extensions = ["no_such_extension"]', "extensions", "the server does not have no_such_extension"),
        ('migrator = "alembic"', "alembic", "there is no file"),
        ('postgres = ">=99"', "server", "needs"),
        ('provider = "local"\nlocal.bin_dir = "/nowhere"', "binaries", "local.bin_dir"),
    ],
)
def test_what_is_wrong_is_found_by_its_probe(
    here: Path, checked: Checked, toml: str, probe: str, fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the others go on."""
    text = (here / "pyproject.toml").read_text().replace('sql.files = ["schema.sql"]', toml)
    (here / "pyproject.toml").write_text(text)
    if "local" in toml:
        monkeypatch.delenv("ELEFAST_ENGINE__URL")
    found = checked(status=1)
    assert found[probe]["status"] == "failed"
    assert fact in found[probe]["fact"]
    assert found[probe]["remedy"]
    assert found["versions"]["status"] == "ok"


@pytest.mark.parametrize(
    ("url", "fact"),
    [("postgresql://postgres:wrong@{place}/postgres", "password"), ("postgresql://postgres@127.0.0.1:1/x", "refused")],
)
def test_a_server_that_does_not_let_us_in(
    here: Path, checked: Checked, server_url: str, monkeypatch: pytest.MonkeyPatch, url: str, fact: str
) -> None:
    """The probe says so, and what needs the server is not checked."""
    place = server_url.rpartition("@")[2].partition("/")[0]
    monkeypatch.setenv("ELEFAST_ENGINE__URL", url.format(place=place))
    found = checked(status=1)
    assert found["server"]["status"] == "failed"
    assert fact in found["server"]["fact"]
    assert "elefast explain" in found["server"]["remedy"]
    assert found["role"]["fact"] == "not checked, since it needs: server"


def test_a_role_without_rights(here: Path, checked: Checked, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that may create databases gets a warning, one that may not an error with the statement."""
    place = server_url.rpartition("@")[2]
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create role checked_maker login createdb password 'x'")
        connection.execute("create role checked_nobody login password 'x'")
        try:
            monkeypatch.setenv("ELEFAST_ENGINE__URL", f"postgresql://checked_maker:x@{place}")
            assert checked()["role"]["status"] == "warning"
            monkeypatch.setenv("ELEFAST_ENGINE__URL", f"postgresql://checked_nobody:x@{place}")
            assert "CREATEDB" in checked(status=1)["server"]["fact"]
        finally:
            connection.execute("drop role checked_maker, checked_nobody")


def test_two_heads_and_a_variable_that_nobody_sets(here: Path, checked: Checked) -> None:
    """Alembic itself is asked, in a process of its own."""
    from alembic import command
    from alembic.config import Config

    command.init(Config(here / "alembic.ini"), str(here / "migrations"))
    env = here / "migrations" / "env.py"
    env.write_text(env.read_text() + "\nimport os\nurl = os.environ['APP_DATABASE_URL']\n")
    for name in ("one", "two"):
        (here / "migrations" / "versions" / f"{name}.py").write_text(f"revision = '{name}'\ndown_revision = None\n")
    text = (here / "pyproject.toml").read_text().replace('sql.files = ["schema.sql"]', 'alembic.revision = "head"')
    (here / "pyproject.toml").write_text(text)
    found = checked(status=1)
    assert "2 revisions, heads: one, two" in found["alembic"]["fact"]
    assert (found["variables"]["status"], "APP_DATABASE_URL" in found["variables"]["remedy"]) == ("warning", True)


_FIELD = "from pydantic_settings import BaseSettings\nclass Settings(BaseSettings):\n    SHOP_DATABASE_URL: str\n"
_PARTS = "import os\nparts = [os.environ[f'POSTGRES_{part}'] for part in ('SERVER', 'PORT', 'USER', 'DB')]\n"


@pytest.mark.parametrize(
    ("code", "entries"),
    [
        (_FIELD, ["SHOP_DATABASE_URL"]),
        (
            _PARTS,
            ["POSTGRES_SERVER={host}", "POSTGRES_PORT={port}", "POSTGRES_USER={user}", "POSTGRES_DB={database}"],
        ),
    ],
)
def test_variables_that_the_code_reads_are_those_that_init_proposes(
    here: Path, checked: Checked, code: str, entries: list[str]
) -> None:
    """Fields of settings and parts of a URL count; a warning until the configuration names them, or has `patch`."""
    (here / "settings.py").write_text(code)
    found = checked()["variables"]
    assert found["status"] == "warning"
    assert json.dumps(entries) in found["remedy"]
    text = (here / "pyproject.toml").read_text()
    (here / "pyproject.toml").write_text(f"{text}export_env = {json.dumps(entries)}\n")
    found = checked()["variables"]
    assert (found["status"], all(entry.partition("=")[0] in found["fact"] for entry in entries)) == ("ok", True)
    (here / "engines.py").write_text("from sqlalchemy import create_engine\nengine = create_engine('postgresql://')\n")
    (here / "pyproject.toml").write_text(f'{text}patch = ["engines:engine"]\n')
    assert (checked()["variables"]["status"], checked()["variables"]["fact"]) == ("ok", "patch leads the application")


def test_modules_that_take_long_are_not_a_mistake_in_elefast(
    here: Path, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe says what took the time, and the others go on."""
    monkeypatch.setattr("elefast.cli.check.project.PATIENCE", 1.0)
    (here / "slow_seeds.py").write_text("import time\ntime.sleep(60)\n")
    text = (here / "pyproject.toml").read_text()
    (here / "pyproject.toml").write_text(f'{text}seed = ["slow_seeds:load"]\n')
    found = checked()
    assert found["targets"]["status"] == "warning"
    assert "importing slow_seeds:load took more than 1 s" in found["targets"]["fact"]
    assert "import slow_seeds" in found["targets"]["remedy"]
    assert found["fixtures"]["status"] == "ok"


def test_leftovers_are_counted_and_stay(here: Path, checked: Checked) -> None:
    """Looking does not prune."""
    with elefast.from_config() as stack:
        stack.checkout("tests/test_it.py::test_one").release(keep="always")
    assert "1 of them kept" in checked()["leftovers"]["fact"]
    assert checked()["leftovers"]["status"] == "warning"


def test_a_hidden_fixture_and_a_plugin_that_is_switched_off(here: Path, checked: Checked) -> None:
    """What the project's own files do to elefast."""
    (here / "conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef db():\n    ...\n")
    with (here / "pyproject.toml").open("a") as file:
        file.write('[tool.pytest.ini_options]\naddopts = "-p no:elefast"\n')
    found = checked(status=1)
    assert found["plugin"]["remedy"] == "take it out of addopts"
    assert found["fixtures"]["fact"].endswith("conftest.py:4 `db`")


def test_a_configuration_that_pytest_does_not_find(here: Path, checked: Checked) -> None:
    """Where pytest's rootdir is above the configuration, because a file there configures pytest."""
    below = here / "backend"
    below.mkdir()
    (below / "elefast.toml").write_text("sql.files = ['../schema.sql']\n")
    (here / "pytest.ini").write_text("[pytest]\n")
    os.chdir(below)
    found = checked(status=1)["rootdir"]
    assert found["status"] == "failed"
    assert f"the configuration is in {below}, but pytest takes {here} for its rootdir" in found["fact"]
    (below / "pytest.ini").write_text("[pytest]\n")
    assert checked()["rootdir"]["status"] == "ok"


def test_a_missing_driver(here: Path) -> None:
    """In an interpreter that does not have it."""
    program = (
        "import sys; sys.modules['psycopg2'] = None\nfrom elefast.cli import main\nsys.exit(main(['check', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ELEFAST_ENGINE__DRIVER": "psycopg2"},
        capture_output=True,
        text=True,
    )
    found = {finding["probe"]: finding for finding in json.loads(done.stdout)}
    assert (done.returncode, found["drivers"]["remedy"]) == (1, "pip install psycopg2-binary")


def test_a_daemon_that_hangs_does_not_hang_the_check(
    here: Path, checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that takes connections and never answers."""
    pytest.importorskip("docker")
    with socket.socket(socket.AF_UNIX) as listener:
        place = tmp_path / "docker.sock"
        listener.bind(str(place))
        listener.listen()
        monkeypatch.delenv("ELEFAST_ENGINE__URL")
        monkeypatch.setenv("ELEFAST_PROVIDER", "docker")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")
        found = checked(status=1)
    assert found["docker"]["status"] == "failed"
    assert "elefast explain" in found["docker"]["remedy"]


def test_a_probe_has_a_limit_and_a_mistake_stops_no_other() -> None:
    """The machinery by itself."""
    import threading

    gate = threading.Event()

    def hang() -> Any:
        gate.wait(20)
        return good("late")

    def broken() -> Any:
        raise ZeroDivisionError("oops")

    probes = [
        Probe("slow", hang),
        Probe("broken", broken),
        Probe("next", lambda: good("fine"), ["slow"]),
        Probe("last", lambda: good("fine")),
    ]
    found = {finding.probe: finding for finding in run_all(probes, seconds=0.1)}
    gate.set()
    assert found["slow"].fact == "no answer within 0.1 s"
    assert found["broken"].fact == "ZeroDivisionError: oops"
    assert found["next"].status == "skipped"
    assert found["last"] == ProbeReport("last", "ok", "fine")

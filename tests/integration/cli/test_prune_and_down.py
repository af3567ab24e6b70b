"""The commands that work on a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

import elefast
from elefast.cli import main
from elefast.providers.docker import address

Names = Callable[[], set[str]]


def test_prune_drops_kept_databases_and_leaves_templates_and_others(
    inside: Path, names: Names, capsys: pytest.CaptureFixture[str], server_url: str
) -> None:
    """What bears the mark and nobody uses; with `--all` templates too; a foreign database never."""
    with psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create database elefast_precious")
        try:
            with elefast.from_config() as stack:
                stack.checkout("a test").release(keep="always")
                (kept,) = stack.report().kept
                template = stack.report().template
            assert main(["prune"]) == 0
            assert f"dropped {kept.name}" in capsys.readouterr().out
            assert kept.name not in names()
            assert template in names()
            assert main(["prune", "--all"]) == 0
            assert f"dropped {template}" in capsys.readouterr().out
            assert template not in names()
            assert "elefast_precious" in names()
        finally:
            connection.execute("drop database elefast_precious")


def test_prune_spares_what_a_running_process_uses(inside: Path, names: Names) -> None:
    """A template that somebody clones from, and somebody's database."""
    with elefast.from_config(pool={"size": 0}) as stack:
        lent = stack.checkout()
        assert main(["prune", "--all"]) == 0
        assert {lent.name, stack.report().template} <= names()
        with lent.sync.session() as session:
            assert session.scalar(text("select count(*) from note")) == 0
        lent.release()


def test_down_says_when_there_is_nothing_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It touches only servers of elefast's own that were left running; here there is no trace of an engine."""
    for name in ("LOCAL_ENGINE", "LOCAL_PODMAN"):
        monkeypatch.setattr(address, name, str(tmp_path / name))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "no server was left running\n"


def test_a_kept_database_can_be_looked_at_until_down(
    project: Path, elefast_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A local server stays up for it, without any process of the run; `down` stops it and all is gone."""
    monkeypatch.chdir(project)
    with elefast.from_config(provider="local", local={"reuse": False}) as stack:
        stack.checkout("a test").release(keep="always")
        (kept,) = stack.report().kept
    with psycopg.connect(kept.dsn) as connection:
        assert connection.execute("select count(*) from note").fetchone() == (0,)
    assert main(["down"]) == 0
    assert "stopped PostgreSQL" in capsys.readouterr().out
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(kept.dsn)

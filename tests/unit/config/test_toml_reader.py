"""A TOML file is read and parsed once, and again as soon as it differs."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from elefast import factory
from elefast.cli.init.project import read_project
from elefast.config import load_settings, settings_for_run
from elefast.config.toml_reader import read_toml

TABLE = '[project]\nname = "shop"\n[tool.alembic]\nscript_location = "migrations"\n[tool.elefast]\nkeep = "never"\n'
AN_HOUR_AGO = time.time() - 3600


def _write(file: Path, text: str, *, changed: float = AN_HOUR_AGO) -> Path:
    file.write_text(text)
    os.utime(file, (changed, changed))
    return file


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that Python's parser was given."""
    texts: list[str] = []
    parse: Callable[[str], dict[str, object]] = tomllib.loads

    def loads(text: str) -> dict[str, object]:
        texts.append(text)
        return parse(text)

    monkeypatch.setattr("tomllib.loads", loads)
    return texts


def test_a_run_parses_pyproject_once(tmp_path: Path, parsed: list[str]) -> None:
    """For its keys, for Alembic, for the project's name, for what a run remembers, and for `elefast init`."""
    _write(tmp_path / "pyproject.toml", TABLE)
    loaded = settings_for_run(env={}, start=tmp_path, caches=str(tmp_path / "caches"))
    assert loaded.migrator.migrator == "alembic"
    factory.from_config(tmp_path, env={"CI": "1"}).close()
    assert read_project(tmp_path).document["project"]["name"] == "shop"
    assert parsed == [TABLE]


@pytest.mark.parametrize(
    "change",
    [
        lambda file: _write(file, TABLE + "\n"),
        lambda file: _write(file, TABLE, changed=AN_HOUR_AGO + 1),
        lambda file: os.replace(_write(file.with_name("other.toml"), TABLE), file),
    ],
    ids=["size", "time", "inode"],
)
def test_a_file_that_differs_is_read_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Any of its size, its time and its inode is enough."""
    file = _write(tmp_path / "pyproject.toml", TABLE)
    before = read_toml(file)
    assert read_toml(file) is before
    change(file)
    assert read_toml(file) is not before


def test_a_file_that_has_just_changed_is_read_again(tmp_path: Path) -> None:
    """Its next change may have the same time, and the same size."""
    file = tmp_path / "pyproject.toml"
    file.write_text('keep = "always"')
    assert read_toml(file).table() == {"keep": "always"}
    file.write_text('keep = "failed"')
    assert read_toml(file).table() == {"keep": "failed"}


def test_changed_settings_do_not_reach_the_next_reader(tmp_path: Path) -> None:
    """Values of any type are handed on as they are, so the reader's own must not be among them."""
    text = TABLE + "[tool.elefast.engine.connect_args]\nhosts = [1]\n"
    _write(tmp_path / "pyproject.toml", text)
    load_settings(start=tmp_path, env={}).settings.engine.connect_args["hosts"].append(2)
    assert load_settings(start=tmp_path, env={}).settings.engine.connect_args == {"hosts": [1]}


def test_a_file_that_is_gone_is_gone(tmp_path: Path) -> None:
    """What was read of it does not stand for it."""
    file = _write(tmp_path / "pyproject.toml", TABLE)
    read_toml(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read_toml(file)

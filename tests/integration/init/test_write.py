"""How `elefast init` writes: not another byte, whole or not at all."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import pytest

from elefast.cli.init import write_files
from elefast.errors import ConfigurationError

TABLE = "[tool.elefast]\nmigrator = 'none'\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", TABLE),
        ("a = 1\n", "a = 1\n\n" + TABLE),
        ("a = 1", "a = 1\n\n" + TABLE),
        ("a = 1\n\n", "a = 1\n\n\n" + TABLE),
        ("a = 1\r\nb = 2\r\n", "a = 1\r\nb = 2\r\n\r\n" + TABLE.replace("\n", "\r\n")),
        ("a = 'ä €'  \t\n# end", "a = 'ä €'  \t\n# end\n\n" + TABLE),
    ],
)
def test_what_is_there_stays_byte_for_byte(tmp_path: Path, before: str, after: str) -> None:
    """Line endings are those of the file, and a missing last one is not added to the last line's content."""
    file = tmp_path / "pyproject.toml"
    file.write_bytes(before.encode())
    write_files.append(file, before, TABLE)
    assert file.read_bytes() == after.encode()
    assert tomllib.loads(file.read_text(encoding="utf-8"))["tool"]["elefast"] == {"migrator": "none"}
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    """The file that it leads to is the one that changes."""
    real = tmp_path / "real.toml"
    real.write_text("a = 1\n")
    real.chmod(0o640)
    link = tmp_path / "pyproject.toml"
    link.symlink_to(real)
    write_files.append(link, "a = 1\n", TABLE)
    assert link.is_symlink()
    assert "[tool.elefast]" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_change_of_somebody_else_is_not_lost(tmp_path: Path) -> None:
    """What was read is no longer what is there: nothing is written, and nothing half-made stays."""
    file = tmp_path / "pyproject.toml"
    file.write_text("a = 2\n")
    with pytest.raises(ConfigurationError, match="another program has changed it"):
        write_files.append(file, "a = 1\n", TABLE)
    assert file.read_text() == "a = 2\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_a_read_only_file_stays_as_it_is(tmp_path: Path) -> None:
    """Also for root, who could write it."""
    file = tmp_path / "pyproject.toml"
    file.write_text("a = 1\n")
    file.chmod(0o444)
    with pytest.raises(ConfigurationError, match="read-only"):
        write_files.append(file, "a = 1\n", TABLE)
    assert file.read_text() == "a = 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_an_interrupt_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the worst moment, between the new text and its name."""
    file = tmp_path / "pyproject.toml"
    file.write_text("a = 1\n")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files.append(file, "a = 1\n", TABLE)
    assert file.read_text() == "a = 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pyproject.toml"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A file that is there is left alone, a directory that is a file is an error with the way out."""
    file = tmp_path / "tests" / "test_example.py"
    assert write_files.create(file, "one\n")
    assert not write_files.create(file, "two\n")
    assert file.read_text() == "one\n"
    with pytest.raises(ConfigurationError, match=r"cannot be written: .*dry-run"):
        write_files.create(file / "below.py", "three\n")

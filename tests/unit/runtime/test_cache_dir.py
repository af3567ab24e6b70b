"""Files that only save time: replaced as a whole, and without rests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elefast.runtime import cache_dir


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    """With the next one that writes the same file; what living ones and other files have stays."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    kept = tmp_path / "kept.json"
    for name in (f"kept.json.{ended.pid}", f"kept.json.{os.getpid()}", f"kept.json.{os.getppid()}", "other.json.1"):
        (tmp_path / name).touch()
    cache_dir.write_atomically(str(kept), "text")
    assert kept.read_text() == "text"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"kept.json", f"kept.json.{os.getppid()}", "other.json.1"}


def test_one_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """And what was there is as it was."""
    kept = tmp_path / "kept.json"
    kept.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        cache_dir.write_atomically(str(kept), "\udcff")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
    assert kept.read_text() == "before"


def test_files_of_projects_that_are_gone_are_removed(tmp_path: Path) -> None:
    """No run has written them for a month."""
    (tmp_path / "old").touch()
    (tmp_path / "young").touch()
    os.utime(tmp_path / "old", (0, 0))
    cache_dir.write_atomically(str(tmp_path / "kept.json"), "text")
    assert {path.name for path in tmp_path.iterdir()} == {"young", "kept.json"}

"""Directories and lock files: what has elefast's name and is somebody's link or lacks the mark stays as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from elefast.providers.files import directories, locks
from elefast.providers.files.directories import BUILDING, MARKER, TRASH, Places
from elefast.providers.local import cleanup, orphan_files, state_file
from tests.robustness.crashes.foreign import LONG_AGO


def _look(directory: Path) -> dict[str, tuple[int, int, int]]:
    found = [directory, *directory.rglob("*")]
    return {str(path): (path.lstat().st_ino, path.lstat().st_mode, path.lstat().st_size) for path in found}


def _without_marker(path: Path, elsewhere: Path) -> None:
    path.mkdir()
    (path / "precious").write_text("mine")


def _marker_is_a_link(path: Path, elsewhere: Path) -> None:
    _without_marker(path, elsewhere)
    (path / MARKER).symlink_to(elsewhere / MARKER)


def _marker_is_a_directory(path: Path, elsewhere: Path) -> None:
    _without_marker(path, elsewhere)
    (path / MARKER).mkdir()


def _link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def _users_is_a_link(path: Path, elsewhere: Path) -> None:
    _without_marker(path, elsewhere)
    (path / MARKER).touch()
    (path / state_file.USERS).symlink_to(elsewhere / "precious")


DECOYS: dict[str, Callable[[Path, Path], None]] = {
    "no marker": _without_marker,
    "marker is a link": _marker_is_a_link,
    "marker is a directory": _marker_is_a_directory,
    "link": _link,
}
NAMES = ("server", f"{TRASH}server-1-1732566000000000000", f"{BUILDING}1-1732566000000000000", "initdb-18-0")


def _age(path: Path) -> None:
    for one in [path, *path.rglob("*")]:
        os.utime(one, (LONG_AGO, LONG_AGO), follow_symlinks=False)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory that has the marker, and is not where elefast's are."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    (path / MARKER).touch()
    (path / "precious").write_text("mine")
    return path


@pytest.mark.fault("a directory that is not elefast's", how="each way to delete one, asked to delete one like it")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decoy", DECOYS)
def test_a_directory(tmp_path: Path, elsewhere: Path, decoy: str, name: str) -> None:
    """It stays, with all that is in it and all that a link in it leads to."""
    places = Places.under(str(tmp_path))
    for root in (places.memory, places.disk):
        Path(root).mkdir()
        DECOYS[decoy](Path(root) / name, elsewhere)
        _age(Path(root) / name)
    before = _look(tmp_path)
    cleanup.sweep(places, "mine")
    cleanup.sweep_server(places, name)
    for root in (places.memory, places.disk):
        for remove in (directories.remove, directories.remove_left):
            assert not remove(os.path.join(root, name))
    assert _look(tmp_path) == before


@pytest.mark.fault("a lock file that is a link", how="a link to a file of somebody's in place of `users`")
def test_a_lock_file(tmp_path: Path, elsewhere: Path) -> None:
    """What it leads to is neither made, nor opened, nor locked; and the directory is not taken for an unused one."""
    places = Places.under(str(tmp_path))
    Path(places.memory).mkdir()
    _users_is_a_link(Path(places.memory) / "server", elsewhere)
    _age(Path(places.memory) / "server")
    before = _look(tmp_path)
    cleanup.sweep(places, "mine")
    assert _look(tmp_path) == before
    for target in (elsewhere / "precious", elsewhere / "not there yet"):
        link = tmp_path / f"link to {target.name}"
        link.symlink_to(target)
        with pytest.raises(OSError, match="symbolic links"):
            locks.take(str(link), exclusive=True)
        with pytest.raises(OSError, match="symbolic links"):
            locks.is_held(str(link))
    assert not (elsewhere / "not there yet").exists()


@pytest.mark.fault("a data directory that is not elefast's", how="numbered directories in it that no catalog knows")
def test_files_of_a_foreign_server(tmp_path: Path) -> None:
    """Without the marker beside it nothing in it is looked at."""
    (tmp_path / "data" / "base" / "4711").mkdir(parents=True)
    no_connection: None = None
    assert orphan_files.clear(no_connection, str(tmp_path / "data")) == []  # type: ignore[arg-type]  # not asked
    assert (tmp_path / "data" / "base" / "4711").is_dir()

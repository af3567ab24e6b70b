"""Directories: that they are private, and that nothing foreign is ever deleted."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's files")


def test_a_root_is_private(tmp_path: Path) -> None:
    """Others may at most pass through it, and that only where the server runs as another user."""
    path = tmp_path / "a" / "root"
    directories.root(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    path.chmod(0o777)
    directories.root(str(path))
    assert not path.stat().st_mode & 0o066


def test_a_link_is_no_root(tmp_path: Path) -> None:
    """Somebody else may have put it there."""
    (tmp_path / "there").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "there")
    with pytest.raises(ProviderFailure, match="symbolic link") as caught:
        directories.root(str(tmp_path / "root"))
    assert caught.value.kind == "RefusedError"


@as_root
def test_the_root_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Even for root."""
    path = tmp_path / "root"
    path.mkdir()
    os.chown(path, 65534, 65534)
    with pytest.raises(ProviderFailure, match="belongs to the user 65534"):
        directories.root(str(path))


def test_without_the_mark_nothing_is_deleted(tmp_path: Path) -> None:
    """Whatever we are asked."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    assert not directories.remove(str(tmp_path / "foreign"))
    assert (tmp_path / "foreign" / "file").exists()


def test_a_link_to_something_marked_is_not_followed(tmp_path: Path) -> None:
    """The mark must be in a directory, not behind a link."""
    directories.claim(str(tmp_path / "ours"))
    (tmp_path / "link").symlink_to(tmp_path / "ours")
    assert not directories.remove(str(tmp_path / "link"))
    assert (tmp_path / "ours" / directories.MARKER).exists()


def test_links_inside_are_not_followed(tmp_path: Path) -> None:
    """Deleting ours leaves what it pointed to."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "file").touch()
    ours = tmp_path / "ours"
    directories.claim(str(ours))
    (ours / "link").symlink_to(tmp_path / "foreign")
    (ours / "sub").mkdir()
    (ours / "sub" / "link").symlink_to(tmp_path / "foreign")
    assert directories.remove(str(ours))
    assert (tmp_path / "foreign" / "file").exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["foreign"]


@pytest.mark.parametrize("existing", [False, True])
def test_a_data_dir_is_given_back_as_it_was(tmp_path: Path, existing: bool) -> None:
    """It goes if we made it, and stays empty if it was there."""
    path = tmp_path / "data"
    if existing:
        path.mkdir()
    directories.adopt(str(path))
    assert (path / directories.MARKER).exists()
    directories.release(str(path))
    assert path.exists() == existing


def test_a_data_dir_with_foreign_content_is_refused(tmp_path: Path) -> None:
    """It could not be told from ours later."""
    (tmp_path / "PG_VERSION").write_text("15\n")
    with pytest.raises(ProviderFailure, match=r"not elefast's \(PG_VERSION\)") as caught:
        directories.adopt(str(tmp_path))
    assert caught.value.kind == "RefusedError"
    assert not (tmp_path / directories.MARKER).exists()


def test_the_second_to_publish_gives_way(tmp_path: Path) -> None:
    """The name stays with the first, and no rest remains of the second."""
    first, second = (directories.building(str(tmp_path)) for _ in range(2))
    Path(first, "first").touch()
    target = tmp_path / "target"
    directories.publish(first, str(target))
    directories.publish(second, str(target))
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]
    assert (target / "first").exists()


def test_what_somebody_puts_together_is_not_left(tmp_path: Path) -> None:
    """Whoever sweeps spares it, and removes it once that process is gone."""
    program = (
        "import sys; from elefast.providers.files import directories; print(directories.building(sys.argv[1])); input()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        path = Path(process.stdout.readline().strip())
        (path / "data").mkdir()
        assert not directories.remove_left(str(path))
        assert (path / "data").exists()
        process.kill()
        process.wait()
        assert directories.remove_left(str(path))
    assert list(tmp_path.iterdir()) == []


def test_what_we_put_together_we_may_remove(tmp_path: Path) -> None:
    """Though we still have the lock on it."""
    path = directories.building(str(tmp_path))
    assert not directories.remove_left(path)
    assert directories.remove(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["building-12-1732566000000000000", "trash-data-12-1732566000000000000"])
def test_what_was_not_marked_yet_goes_if_it_is_empty(tmp_path: Path, name: str) -> None:
    """Only under a name that nobody gives by accident."""
    for path in (tmp_path / name, tmp_path / "building-1-1"):
        path.mkdir()
        assert not directories.remove_left(str(path))
    assert [path.name for path in tmp_path.iterdir()] == ["building-1-1"]
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    assert not directories.remove_left(str(tmp_path / name))
    assert (tmp_path / name / "precious").exists()


def test_the_users_own_roots_are_private_and_named_after_him(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two users of one machine never meet."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent/for/sure")
    places = directories.Places.default()
    if places.memory:
        assert places.memory == f"/dev/shm/elefast-{os.geteuid()}"
    assert places.servers == (places.memory or places.disk)

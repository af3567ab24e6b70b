"""A file is read again wherever it could be another one, and only there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elefast.runtime.hashing import digest
from elefast.templates import file_digests

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stamps are trusted on Linux only")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that knows no file, on a file system that counts as this machine's own."""
    for name in ("_known", "_seen", "_memos"):
        monkeypatch.setattr(file_digests, name, {})
    for name in ("_used_memos", "_loaded"):
        monkeypatch.setattr(file_digests, name, set())
    monkeypatch.setattr(file_digests, "_news", False)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read."""
    found: list[str] = []
    read = file_digests._read

    def note(name: str) -> str:
        found.append(os.path.basename(name))
        return read(name)

    monkeypatch.setattr(file_digests, "_read", note)
    return found


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is old enough."""
    made = tmp_path / "it.py"
    made.write_text("X = 1\n")
    while not made.stat().st_ctime_ns % 10**9:
        made.chmod(0o600)
    monkeypatch.setattr(file_digests, "SETTLED", -(10**9))
    monkeypatch.setattr(file_digests, "_trusted_devices", lambda: frozenset({made.stat().st_dev}))
    return made


def test_read_once(file: Path, reads: list[str]) -> None:
    """Nothing happened to it."""
    assert file_digests.of(file) == file_digests.of(str(file)) == digest(b"X = 1\n")
    assert reads == ["it.py"]


def _edit(file: Path) -> None:
    file.write_text("X = 2\n")


def _edit_keeping_times(file: Path) -> None:
    before = file.stat()
    file.write_text("X = 2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_keeping_times(file: Path) -> None:
    before = file.stat()
    other = file.with_name("other")
    other.write_text("X = 2\n")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)


def _in_another_tick(file: Path, change: Callable[[Path], None]) -> None:
    """Change it until the clock of the file system has moved on; settled files are much older than that."""
    before = file.stat().st_ctime_ns
    change(file)
    while file.stat().st_ctime_ns == before:
        change(file)


@pytest.mark.parametrize("change", [_edit, _edit_keeping_times, _replace_keeping_times])
def test_other_content(file: Path, change: Callable[[Path], None]) -> None:
    """Whatever is done about size and times."""
    file_digests.of(file)
    _in_another_tick(file, change)
    assert file_digests.was_touched(file)
    assert file_digests.of(file) == digest(b"X = 2\n")
    assert not file_digests.was_touched(file)


def test_touched(file: Path) -> None:
    """It is read again, and is the same."""
    before = file_digests.of(file)
    _in_another_tick(file, lambda path: os.utime(path, (0, 0)))
    assert file_digests.was_touched(file)
    assert file_digests.of(file) == before


def test_gone_and_back(file: Path) -> None:
    """A file that is not there has no digest."""
    content = file.read_bytes()
    file.unlink()
    assert file_digests.of(file) == file_digests.ABSENT
    assert file_digests.was_touched(file) is False
    file.write_bytes(content)
    assert file_digests.was_touched(file)
    assert file_digests.of(file) == digest(content)


def test_young_files_are_read_again(file: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another edit within the same tick would have the same times."""
    monkeypatch.setattr(file_digests, "SETTLED", 10**15)
    file_digests.of(file)
    file_digests.of(file)
    assert reads == ["it.py", "it.py"]


def test_files_of_other_machines_are_read_again(file: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system shows what it has in its cache."""
    monkeypatch.setattr(file_digests, "_trusted_devices", frozenset)
    file_digests.of(file)
    file_digests.of(file)
    assert reads == ["it.py", "it.py"]


def test_the_root_file_system_or_memory_is_trusted() -> None:
    """Of this very machine, whose mounts are read for it."""
    kinds = {line.partition(" - ")[2].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    assert bool(file_digests._trusted_devices()) == bool(kinds & file_digests._LOCAL)


def _again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process."""
    for name in ("_known", "_seen", "_memos"):
        monkeypatch.setattr(file_digests, name, {})
    for name in ("_used_memos", "_loaded"):
        monkeypatch.setattr(file_digests, name, set())
    file_digests.load(str(kept))


def test_kept_for_another_process(
    file: Path, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one process has read the next one need not read, nor compute."""
    kept = tmp_path / "caches" / "digests.json"
    file_digests.load(str(kept))
    file_digests.of(file)
    assert file_digests.memo("long text") is None
    file_digests.remember("long text", "short")
    file_digests.save(str(kept))

    _again(kept, monkeypatch)

    assert file_digests.of(file) == digest(b"X = 1\n")
    assert file_digests.memo("long text") == "short"
    assert reads == ["it.py"]
    assert [path.name for path in kept.parent.iterdir()] == ["digests.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        '{"format": 1}',
        '{"format": 2, "files": {}, "memos": {}}',
        '{"format": 1, "files": {"PATH": [1, 2]}, "memos": {}}',
        '{"format": 1, "files": {"PATH": [1, 2, 3, 4, 5, ""]}, "memos": {}}',
        '{"format": 1, "files": {}, "memos": {"x": 3}}',
    ],
)
def test_a_broken_file_is_none(file: Path, tmp_path: Path, text: str) -> None:
    """And the next one to learn something replaces it."""
    kept = tmp_path / "digests.json"
    kept.write_text(text.replace("PATH", str(file)))
    kept.chmod(0o600)
    file_digests.load(str(kept))
    assert file_digests._known == {}
    assert file_digests.of(file) == digest(b"X = 1\n")
    file_digests.save(str(kept))
    assert str(file) in kept.read_text()


def test_a_file_that_others_may_write_is_none(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could make any file look unchanged."""
    kept = tmp_path / "digests.json"
    file_digests.of(file)
    file_digests.save(str(kept))
    kept.chmod(0o666)

    _again(kept, monkeypatch)

    assert file_digests._known == {}


def test_old_files_go(file: Path, tmp_path: Path) -> None:
    """Projects that are gone leave nothing for ever."""
    place = tmp_path / "caches"
    place.mkdir()
    (place / "old").touch()
    (place / "young").touch()
    os.utime(place / "old", (0, 0))
    file_digests.of(file)
    file_digests.save(str(place / "digests.json"))
    assert {path.name for path in place.iterdir()} == {"young", "digests.json"}

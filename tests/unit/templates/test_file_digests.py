"""The digest of a file follows its content, and its stamp shows every touch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elefast.runtime.hashing import digest
from elefast.templates import file_digests

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no time of change")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one line."""
    made = tmp_path / "it.py"
    made.write_text("X = 1\n")
    return made


def test_the_digest_is_that_of_the_content(file: Path) -> None:
    """However the path is given."""
    assert file_digests.of(file) == file_digests.of(str(file)) == digest(b"X = 1\n")


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
    """Repeat the change until the clock of the file system has moved on."""
    before = file.stat().st_ctime_ns
    change(file)
    while file.stat().st_ctime_ns == before:
        change(file)


@pytest.mark.parametrize("change", [_edit, _edit_keeping_times, _replace_keeping_times])
def test_a_file_with_other_content_was_touched(file: Path, change: Callable[[Path], None]) -> None:
    """Also where size and time of modification are the same."""
    file_digests.of(file)
    _in_another_tick(file, change)
    assert file_digests.was_touched(file)
    assert file_digests.of(file) == digest(b"X = 2\n")
    assert not file_digests.was_touched(file)


def test_a_file_with_the_same_content_was_touched(file: Path) -> None:
    """It may have had other content for a moment."""
    before = file_digests.of(file)
    _in_another_tick(file, lambda path: os.utime(path, (0, 0)))
    assert file_digests.was_touched(file)
    assert file_digests.of(file) == before


def test_a_file_that_is_removed_and_written_again_was_touched(file: Path) -> None:
    """A file that does not exist has no digest."""
    content = file.read_bytes()
    file.unlink()
    assert file_digests.of(file) == file_digests.ABSENT
    assert file_digests.was_touched(file) is False
    file.write_bytes(content)
    assert file_digests.was_touched(file)
    assert file_digests.of(file) == digest(content)


def test_a_file_without_a_digest_was_not_touched(file: Path) -> None:
    """There is no earlier stamp to compare with."""
    assert not file_digests.was_touched(file)

"""The table of faults: it says what its file says, and every test of a fault has its row."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def writer() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs/reliability.py"))


def test_the_page_is_made_from_its_file(writer: dict[str, Any]) -> None:
    """Somebody who has new rows, or another sentence in the writer, writes the page again."""
    page = writer["page"](writer["read"](writer["ROWS"]))
    assert writer["PAGE"].read_text(encoding="utf-8") == page, "python docs/reliability.py"


def test_each_test_of_a_fault_has_its_row(writer: dict[str, Any]) -> None:
    """The table is of what there is: no test is missing, none is gone, and none has another fault by now."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "-m", "fault", "tests"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tests = {line for line in told.splitlines() if "::" in line}
    assert len(tests) > 50
    assert {row["test"] for row in writer["read"](writer["ROWS"])} == tests


def test_no_row_of_a_test_that_failed(writer: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """What went wrong is mended first, and not told as what happens."""
    row = {"test": "tests/robustness/faults/test_x.py::test_y", "times": 1, "outcome": "failed"}
    with pytest.raises(SystemExit, match="test_y has failed"):
        writer["merged"]([], [row])


def test_a_shorter_run_takes_nothing_away(writer: dict[str, Any]) -> None:
    """A row tells of the run that tried it most often, and of the newest of those."""
    merged = writer["merged"]
    row = {"test": "tests/robustness/faults/test_x.py::test_y", "times": 7, "outcome": "passed", "happened": "well"}
    assert merged([row], [row | {"times": 3}]) == [row]
    assert merged([row], [row | {"happened": "better"}]) == [row | {"happened": "better"}]
    assert merged([row], [row | {"times": 9, "outcome": "skipped"}]) == [row]

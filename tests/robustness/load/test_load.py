"""Many acquires in several processes on one server, in seconds.

`TEST_LOAD_ACQUIRES` makes it longer; from 10 000 on it is the long form of the command: 16 processes, ten minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
ACQUIRES = int(os.environ.get("TEST_LOAD_ACQUIRES", "400"))
LONG = ACQUIRES >= 10_000
WORKERS = 16 if LONG else 3
# The short form has so few databases at once that after a second there are as many as there will ever be.
OPTIONS = ["--minutes=10"] if LONG else ["--minutes=0.3", "--pool-max=6"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux")


def _load(root: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    file = root / "load.json"
    command = [sys.executable, "-m", "benchmarks.load", f"--work={root}", f"--json={file}", *arguments]
    command += [f"--bin-dir={os.environ.get('TEST_POSTGRES_BIN', '')}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    try:
        return done.returncode, json.loads(file.read_text()), done.stdout + done.stderr
    finally:
        file.unlink(missing_ok=True)


@pytest.mark.fault("many acquires", how=f"{WORKERS} processes on one server; sync, async, dirty, left open")
def test_load(elefast_root: Path, record_property: Callable[[str, object], None]) -> None:
    """No error, no growth of memory, objects, threads, connections, files and databases, and nothing is left."""
    status, results, said = _load(elefast_root, f"--acquires={ACQUIRES}", f"--workers={WORKERS}", *OPTIONS)
    record_property("times", results["acquires"])
    assert status == 0, said
    assert results["acquires"] >= ACQUIRES
    assert results["failed"] == 0
    assert all(results["kinds"].values()), results["kinds"]
    assert {one["what"] for one in results["figures"]} >= {"memory of a worker, MB", "databases", "connections"}


def test_it_can_fail(elefast_root: Path) -> None:
    """Workers that hoard one of everything with each tenth acquire are found out."""
    status, results, said = _load(elefast_root, "--acquires=1", "--workers=1", "--minutes=0.15", "--hoard=5")
    assert status == 1, said
    grew = {one["what"] for one in results["figures"] if one["grew"]}
    assert grew >= {"objects of a worker", "threads of a worker", "open files of a worker", "connections"}
    assert any(problem.startswith("grew: ") for problem in results["problems"])

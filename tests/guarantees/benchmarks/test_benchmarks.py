"""The benchmarks still run: their smallest round, without peers. How fast anything is, is no test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parents[3]
SUITES = {"none", "elefast", "create_engine", "elefast_alembic"}


def test_the_smallest_round_works(server_url: str, elefast_root: Path, tmp_path: Path) -> None:
    """An overhead and a start are measured, written as JSON and Markdown, and drawn."""
    command = [sys.executable, "-m", "benchmarks", "--here", "--quick", "--items=1,4", "--tests=2"]
    command += [f"--url={server_url}", f"--suites={','.join(SUITES)}", f"--work={elefast_root}", f"--out={tmp_path}"]
    command += [f"--bin-dir={os.environ.get('TEST_POSTGRES_BIN', '')}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    results = json.loads((tmp_path / "results.json").read_text())
    tables: dict[str, dict[str, Any]] = {table["key"]: table for table in results["tables"]}
    assert list(tables) == ["trivial", "trivial_n2", "warm"]
    for key in ("trivial", "trivial_n2"):
        assert {row["suite"] for row in tables[key]["rows"]} == {"none", "elefast"}
    assert all(row["row_ms"] > row["body_ms"] > 0 for row in tables["warm"]["rows"])
    assert [target["limit"] for target in tables["warm"]["targets"]] == [1.3, 1.3]
    assert "| elefast | database |" in (tmp_path / "results.md").read_text()
    for theme in ("light", "dark"):
        chart = ElementTree.parse(tmp_path / f"per-test-{theme}.svg")
        assert "elefast" in "".join(chart.getroot().itertext())

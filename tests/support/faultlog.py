"""The table of faults: what each test that is marked with `fault` made go wrong, and what came of it.

With `TEST_FAULTS=file.json` a run writes one row for each of them; `docs/reliability.py` makes a page of such files.
A test says more by `record_property`: "times" (how often it was tried), "happened", "left".
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

_KEY = "fault"
_TOLD = ("times", "happened", "left")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and collect rows where somebody wants them."""
    config.addinivalue_line("markers", "fault(what, how): this test makes something go wrong, and how it does so")
    file = os.environ.get("TEST_FAULTS", "")
    if file and not hasattr(config, "workerinput"):  # with pytest-xdist the controller hears of all tests
        config.pluginmanager.register(_Table(Path(file)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the marker says travels with the report, also from a worker of pytest-xdist."""
    for item in items:
        if marker := item.get_closest_marker("fault"):
            (what,) = marker.args
            doc: str = getattr(getattr(item, "obj", None), "__doc__", None) or ""
            item.user_properties.append((_KEY, [what, marker.kwargs["how"], doc.strip().partition("\n")[0]]))


class _Table:
    """The rows of one run, written at its end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told: dict[str, Any] = dict(report.user_properties)
        if _KEY not in told or (report.when != "call" and report.passed):
            return
        what, how, doc = told[_KEY]
        row: dict[str, Any] = {
            "fault": what,
            "how": how,
            "test": report.nodeid,
            "times": 1,
            "happened": doc,
            "left": "nothing",
        }
        row |= {key: told[key] for key in _TOLD if key in told}
        self._rows[report.nodeid] = {**row, "outcome": report.outcome}

    def pytest_sessionfinish(self) -> None:
        rows = sorted(self._rows.values(), key=lambda row: str(row["test"]))
        self._file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

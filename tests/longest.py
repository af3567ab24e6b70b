"""The longest tests of faults: a run of everything leaves them out, aloud, unless `TEST_LONG=1` asks for them.

They are whole runs of pytest, one after the other, and take as long as all other tests together. Who names one of
their directories gets it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_LONGEST = tuple(
    _HERE / name
    for name in (
        "companions",
        "docker/test_crashes.py",
        "hosts",
        "isolation/test_again.py",
        "isolation/test_transactions.py",
        "load",
        "passwords",
        "safety/test_everything.py",
    )
)
# Workers of pytest-xdist are always told what to run, so they hear of it from who starts them.
_LEAVES_OUT = "_TEST_LEAVES_OUT_THE_LONGEST"


def pytest_configure(config: pytest.Config) -> None:
    """Decide it once for the run."""
    if not hasattr(config, "workerinput"):
        of_all = config.args_source != pytest.Config.ArgsSource.ARGS and not config.option.markexpr
        os.environ[_LEAVES_OUT] = "1" if of_all and not os.environ.get("TEST_LONG") else ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out; pytest counts what is deselected in its last line."""
    if not os.environ.get(_LEAVES_OUT):
        return
    left_out = [item for item in items if any(item.path.is_relative_to(path) for path in _LONGEST)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_report_header() -> str:
    """Say so before anything runs."""
    if not os.environ.get(_LEAVES_OUT):
        return ""
    names = ", ".join(path.relative_to(_HERE).as_posix() for path in _LONGEST)
    return f"left out without TEST_LONG=1: {names}"

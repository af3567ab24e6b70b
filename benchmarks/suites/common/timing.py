"""What a suite measures of itself, as a pytest plugin: when the first test began, and what each test waited for.

The same for all suites, also for the one without a database, so that what it costs can be taken off.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

_first: dict[str, float] = {}
_test = {"setup": 0.0, "call": 0.0, "body": 0.0, "row": 0.0}
_waits: list[float] = []


@contextmanager
def body() -> Generator[None]:
    """The test itself, as opposed to what its fixtures do before and after it."""
    _first.setdefault("body", time.monotonic())
    start = time.perf_counter()
    yield
    _test["body"] = time.perf_counter() - start


@contextmanager
def first_row() -> Generator[None]:
    """What the test does until it has its first row."""
    start = time.perf_counter()
    yield
    _test["row"] = time.perf_counter() - start
    _first.setdefault("row", time.monotonic())


def work() -> tuple[str, float]:
    """What a test does besides: nothing, `wait` or `compute`, for so many seconds."""
    kind, _, milliseconds = os.environ.get("BENCH_WORK", "").partition(":")
    return kind, float(milliseconds or 0) / 1000


def compute(seconds: float) -> None:
    """Use the processor for so long, whatever else runs."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What a test waited for: all of it but its body, and of that the first row."""
    _test[report.when or ""] = report.duration
    if report.when == "teardown":
        _waits.append(_test["setup"] + _test["call"] - _test["body"] + _test["row"] + _test["teardown"])
        _test.update(call=0.0, body=0.0, row=0.0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write it where the benchmark looks for it; workers of pytest-xdist have nothing to say."""
    if "BENCH_OUT" in os.environ and not os.environ.get("PYTEST_XDIST_WORKER"):
        with open(os.environ["BENCH_OUT"], "w", encoding="utf-8") as file:
            json.dump({"first": _first, "waits": _waits}, file)

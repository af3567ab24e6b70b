"""The tests that a run of everything leaves out, and says so: the slow ones and the longest ones.

`pytest -n auto` has to finish within five minutes on two processors, with something of every area. The tests below
start pytest, elefast's commands or servers in processes of their own, many times each.

- The slow ones get the marker `slow`. `.ci/run` runs them in a step of its own: `pytest -n auto -m slow`.
- The longest ones take as long as all others together. Only `TEST_LONG=1` runs them, along with everything else.

A run that names directories, files or tests runs whatever it names, and `-m` selects as usual.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["LONGEST", "SLOW"]

_HERE = Path(__file__).parents[1]

# Directories, files, or tests of a file with all their parameters.
SLOW = (
    "guarantees/benchmarks",
    "guarantees/docs/test_pages.py::test_a_page_works_as_it_is_written",
    "guarantees/docs/test_reliability.py::test_each_test_of_a_fault_has_its_row",
    "guarantees/docs/test_site.py::test_every_page_is_there",
    "guarantees/examples",
    "guarantees/isolation",
    "guarantees/platforms",
    "guarantees/projects",
    "guarantees/safety/test_rights.py::test_in_a_run",
    "integration/check/test_check.py",
    "integration/check/test_ci.py::test_the_commands_run",
    "integration/cli/test_server_commands.py",
    "integration/cli/test_up_and_down.py",
    "integration/init/test_init.py",
    "integration/migrators/test_guard.py",
    "integration/migrators/test_manifest.py",
    "integration/migrators/test_manifest_environment.py",
    "integration/providers/test_local_recovery.py",
    "integration/pytest_plugin/test_changes.py::test_workers_and_scopes",
    "integration/pytest_plugin/test_configuration_elsewhere.py",
    "integration/pytest_plugin/test_isolated_asyncio.py",
    "integration/pytest_plugin/test_keep_and_leaks.py",
    "integration/pytest_plugin/test_listeners_of_classes.py",
    "integration/pytest_plugin/test_patch_cached.py",
    "integration/pytest_plugin/test_patch_in_place.py",
    "integration/pytest_plugin/test_report.py",
    "integration/pytest_plugin/test_scopes.py",
    "integration/pytest_plugin/test_sessions.py::test_eight_workers_from_a_cold_start",
    "integration/pytest_plugin/test_transaction.py",
    "integration/pytest_plugin/test_variables_set_by_others.py",
    "integration/pytest_plugin/test_waiting.py",
    "integration/resets/test_random.py",
    "integration/resets/test_restore.py",
    "integration/roles/test_commands.py",
    "integration/roles/test_projects.py",
    "integration/roles/test_servers.py",
    "integration/snapshots/test_states.py",
    "integration/resets/test_retained.py::test_an_async_session_is_as_new",
    "integration/resets/test_retained.py::test_what_is_not_undone_in_a_database",
    "integration/resets/test_retained.py::test_what_is_undone_in_a_database",
    "integration/resets/test_seeded.py::test_over_the_session_of_the_test",
    "integration/snapshots/test_states.py",
    "integration/stack/test_processes.py",
    "integration/stack/test_scenarios.py",
    "integration/stack/test_spares.py::test_no_more_than_the_size_of_a_pool_wait_for_a_template",
    "robustness/crashes",
    "robustness/faults",
    "robustness/fuzz",
    "robustness/hosts/test_containers.py",
)
LONGEST = (
    "guarantees/isolation/test_again.py",
    "guarantees/isolation/test_transactions.py",
    "guarantees/passwords",
    "guarantees/safety/test_everything.py",
    "integration/docker/test_crashes.py",
    "robustness/companions",
    "robustness/hosts/test_hosts.py",
    "robustness/load",
)
# Workers of pytest-xdist are always told what to run, so the controller tells them what to leave out.
_LEAVES_OUT = "_TEST_LEAVES_OUT"


def pytest_configure(config: pytest.Config) -> None:
    """Decide once for the run what is left out."""
    config.addinivalue_line("markers", "slow: left to .ci/run, see tests/support/longest.py")
    config.addinivalue_line("markers", "longest: left to TEST_LONG=1, see tests/support/longest.py")
    if hasattr(config, "workerinput"):
        return
    names_tests = config.args_source == pytest.Config.ArgsSource.ARGS
    left_out = () if names_tests or os.environ.get("TEST_LONG") else ("slow", "longest")
    os.environ[_LEAVES_OUT] = " ".join(name for name in left_out if not _selects(config.option.markexpr, name))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests, before `-m` looks at marks; pytest counts what is deselected in its last line."""
    for item in items:
        if _is_one_of(item, LONGEST):
            item.add_marker("longest")
        elif _is_one_of(item, SLOW):
            item.add_marker("slow")
    names = os.environ.get(_LEAVES_OUT, "").split()
    if left_out := [item for item in items if any(item.get_closest_marker(name) for name in names)]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_report_header() -> list[str]:
    """Say so before anything runs."""
    names = os.environ.get(_LEAVES_OUT, "").split()
    lines: list[str] = []
    if "slow" in names:
        lines.append(f"left out, for -m slow and .ci/run: {', '.join(SLOW)}")
    if "longest" in names:
        lines.append(f"left out without TEST_LONG=1: {', '.join(LONGEST)}")
    return lines


def _selects(expression: str, name: str) -> bool:
    """Whether `-m` says something of this kind of tests; with any expression `slow` tests are ordinary ones."""
    return name in expression or (name == "slow" and bool(expression))


def _is_one_of(item: pytest.Item, names: tuple[str, ...]) -> bool:
    for name in names:
        path, _, test = name.partition("::")
        if item.path.is_relative_to(_HERE / path) and test in ("", getattr(item, "originalname", item.name)):
            return True
    return False

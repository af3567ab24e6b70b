"""The pytest run that this process is part of, if it is one.

The plugin says it here, and `elefast.from_config` in a conftest finds it: where to start looking for the
configuration, and what the command line asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["CurrentRun", "current", "enter", "libpq_variables"]


class CurrentRun(NamedTuple):
    """A run of pytest.

    Args:
        start: pytest's rootdir.
        profile: What ``--elefast-profile`` says; empty where nothing.
        rebuild: Whether ``--elefast-rebuild`` was given.
        test_run: The same in all processes of the run.
        variables: The libpq variables that were set before the first test; None until then.
    """

    start: Path
    profile: str = ""
    rebuild: bool = False
    test_run: str = ""
    variables: Mapping[str, str] | None = None


_current: CurrentRun | None = None


def current() -> CurrentRun | None:
    """The run that this process is part of."""
    return _current


def libpq_variables() -> Mapping[str, str] | None:
    """The libpq variables that were set before the first test of the run; None where it has not noted them yet."""
    return None if _current is None else _current.variables


def enter(run: CurrentRun | None) -> CurrentRun | None:
    """Say which run this process is part of, or that it is part of none; what it was part of before."""
    global _current
    before, _current = _current, run
    return before

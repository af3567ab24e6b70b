"""The pytest run that this process is part of, if it is one.

The plugin enters it, and `elefast.from_config` in a conftest finds it: the configuration that the plugin has resolved,
where to start looking for another one, and what the command line asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from elefast.config.loaded import Loaded

__all__ = ["CurrentRun", "current", "deciding_variables", "enter", "libpq_variables"]


class CurrentRun(NamedTuple):
    """A run of pytest.

    Args:
        start: pytest's rootdir.
        profile: The value of ``--elefast-profile``; empty without it.
        rebuild: Whether ``--elefast-rebuild`` was given.
        test_run: The same in all processes of the run.
        resolve: Gives the configuration of the run, resolved for the environment that the process has now; None
            where the run has none.
        variables: The libpq variables that were set before the first test; None until then.
        leading_application_to: Leads `export_env` and `patch` to a checkout while its context lasts; None where the
            run has no plugin.
    """

    start: Path
    profile: str = ""
    rebuild: bool = False
    test_run: str = ""
    resolve: Callable[[], Loaded] | None = None
    variables: Mapping[str, str] | None = None
    leading_application_to: Callable[[Any], AbstractContextManager[None]] | None = None


_current: CurrentRun | None = None


def current() -> CurrentRun | None:
    """The run that this process is part of."""
    return _current


def enter(run: CurrentRun | None) -> CurrentRun | None:
    """Make this process part of `run`, or of none; the run that it was part of before."""
    global _current
    before, _current = _current, run
    return before


def libpq_variables() -> Mapping[str, str] | None:
    """The libpq variables that were set before the first test of the run; None where it has not noted them yet."""
    return None if _current is None else _current.variables


def deciding_variables(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of `env` that decide what a configuration means: while they stay, so does its resolution."""
    return {name: value for name, value in env.items() if name.startswith(_PREFIXES) or name in _NAMES}


_PREFIXES = ("ELEFAST_", "PG")
_NAMES = frozenset("CI TESTING_DB_URL HOME USERPROFILE USER LOGNAME USERNAME".split())

"""The options of one test, from the command line, its markers and the settings.

This module knows markers and settings. It must not know fixtures or databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from elefast.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from elefast.config import Settings

__all__ = ["KEEP", "ItemOptions"]

KEEP = ("failed", "always", "never")

_ISOLATION = ("database", "transaction")
_SCOPES = ("function", "class", "module", "package", "session")
_ALLOWED = {"isolation": _ISOLATION, "keep": KEEP, "scope": _SCOPES}
_NOTHING_TO_KEEP = (
    'with isolation = "transaction" all that a test wrote is rolled back, and there is nothing to keep; '
    'add isolation="database"'
)

_NO_SHARED_TRANSACTION = (
    'tests of a scope share one private database, which needs isolation="database"; a transaction belongs to one test'
)


class ItemOptions(NamedTuple):
    """How one test gets its database, and what happens to the database afterwards.

    Args:
        isolation: ``database`` or ``transaction``.
        keep: ``never``, ``failed`` or ``always``.
        leaks: ``warn``, ``error`` or ``ignore``.
        scenario: The scenario that its database starts from; empty for the state after migrator and seeds.
        scope: The tests that share the database: ``function`` where each test has its own, or ``class``, ``module``,
            ``package`` or ``session``.
    """

    isolation: str
    keep: str
    leaks: str
    scenario: str = ""
    scope: str = "function"

    @classmethod
    def of(cls, item: pytest.Item, settings: Settings, keep_option: str) -> ItemOptions:
        """The options of a test. The command line overrides the marker, and the marker overrides the settings.

        Args:
            item: The test.
            settings: The settings of the run.
            keep_option: The value of ``--elefast-keep``; empty where it was not given.

        Raises:
            ConfigurationError: The marker is wrong, or its arguments contradict each other.
        """
        marked, places = _marked(item, settings)
        scope = marked.get("scope", "function")
        if scope != "function":
            if marked.get("isolation") == "transaction":
                raise ConfigurationError(
                    [Problem(places["scope"], "scope", _NO_SHARED_TRANSACTION, code="wrong-marker")]
                )
            marked["isolation"] = "database"
        isolation = marked.get("isolation", settings.isolation)
        if isolation == "transaction" and marked.get("keep", "never") != "never":
            raise ConfigurationError([Problem(places["keep"], "keep", _NOTHING_TO_KEEP, code="wrong-marker")])
        keep = keep_option or marked.get("keep", settings.keep)
        return cls(isolation, keep, settings.leaks, marked.get("scenario", settings.scenario), scope)


def _marked(item: pytest.Item, settings: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of the test's markers, and the place of each. A marker nearer to the test overrides others."""
    marked: dict[str, Any] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    for node, marker in item.iter_markers_with_node("elefast"):
        place = f"@pytest.mark.elefast of {node.nodeid}"
        if marker.args:
            problems.append(
                Problem(place, "", f"takes no positional arguments, got {marker.args[0]!r}", code="wrong-marker")
            )
        for name, value in marker.kwargs.items():
            allowed = _ALLOWED.get(name)
            if name == "scenario":
                problems += _wrong_scenario(value, place, settings)
                if name not in marked:
                    marked[name], places[name] = value, place
            elif allowed is None:
                message = "unknown, expected isolation, keep, scenario or scope"
                problems.append(Problem(place, name, message, code="wrong-marker"))
            elif value not in allowed:
                problems.append(
                    Problem(place, name, f"expected {', '.join(allowed)}, got {value!r}", code="wrong-marker")
                )
            elif name not in marked:
                marked[name], places[name] = value, place
    if problems:
        raise ConfigurationError(problems)
    return marked, places


def _wrong_scenario(value: Any, place: str, settings: Settings) -> list[Problem]:
    """The problem with a scenario of a marker; none where it exists."""
    if not isinstance(value, str):
        return [Problem(place, "scenario", f"expected a name, got {value!r}", code="wrong-marker")]
    if not value or value in settings.scenarios:
        return []
    from elefast.config.scenarios import unknown_scenario

    return [Problem(place, "scenario", unknown_scenario(value, settings.scenarios), code="unknown-scenario")]

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
_ALLOWED = {"isolation": _ISOLATION, "keep": KEEP}
_NOTHING_TO_KEEP = (
    'with isolation = "transaction" all that a test wrote is rolled back, and there is nothing to keep; '
    'add isolation="database"'
)


class ItemOptions(NamedTuple):
    """How one test gets its database, and what happens to the database afterwards.

    Args:
        isolation: ``database`` or ``transaction``.
        keep: ``never``, ``failed`` or ``always``.
        leaks: ``warn``, ``error`` or ``ignore``.
    """

    isolation: str
    keep: str
    leaks: str

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
        marked, places = _marked(item)
        isolation = marked.get("isolation", settings.isolation)
        if isolation == "transaction" and marked.get("keep", "never") != "never":
            raise ConfigurationError([Problem(places["keep"], "keep", _NOTHING_TO_KEEP, code="wrong-marker")])
        keep = keep_option or marked.get("keep", settings.keep)
        return cls(isolation, keep, settings.leaks)


def _marked(item: pytest.Item) -> tuple[dict[str, Any], dict[str, str]]:
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
            if allowed is None:
                problems.append(Problem(place, name, "unknown, expected isolation or keep", code="wrong-marker"))
            elif value not in allowed:
                problems.append(
                    Problem(place, name, f"expected {', '.join(allowed)}, got {value!r}", code="wrong-marker")
                )
            elif name not in marked:
                marked[name], places[name] = value, place
    if problems:
        raise ConfigurationError(problems)
    return marked, places

"""What one test asks for: its marker and the run's options and settings, put together.

It knows markers and settings. It must not know fixtures or databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from elefast.errors import ConfigurationError, Problem
from elefast.pytest_plugin import KEEP

if TYPE_CHECKING:
    from elefast.pytest_plugin.harness import Harness

__all__ = ["Wishes"]

_ISOLATION = ("database", "transaction")
_ALLOWED = {"isolation": _ISOLATION, "keep": KEEP}
_NOTHING_TO_KEEP = (
    'with isolation = "transaction" all that a test wrote is rolled back, and there is nothing to keep; '
    'add isolation="database"'
)


class Wishes(NamedTuple):
    """How one test gets its database, and what becomes of it.

    Args:
        isolation: ``database`` or ``transaction``.
        keep: ``never``, ``failed`` or ``always``.
        leaks: ``warn``, ``error`` or ``ignore``.
    """

    isolation: str
    keep: str
    leaks: str

    @classmethod
    def of(cls, item: pytest.Item, harness: Harness) -> Wishes:
        """The wishes of a test: the command line wins over the marker, the marker over the settings.

        Raises:
            ConfigurationError: The marker is wrong, or asks for two things that cannot go together.
        """
        settings = harness.settings
        marked, places = _marked(item)
        isolation = marked.get("isolation", settings.isolation)
        if isolation == "transaction" and marked.get("keep", "never") != "never":
            raise ConfigurationError([Problem(places["keep"], "keep", _NOTHING_TO_KEEP, code="wrong-marker")])
        keep = harness.option("elefast_keep") or marked.get("keep", settings.keep)
        return cls(isolation, keep, settings.leaks)


def _marked(item: pytest.Item) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of the test's markers, and where each was written; those nearer to the test win."""
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

"""What one test asks for: its marker and the run's options and settings, put together.

It knows markers and settings. It must not know fixtures or databases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from elefast.errors import ConfigurationError, Problem
from elefast.pytest_plugin import KEEP

if TYPE_CHECKING:
    from elefast.pytest_plugin.harness import Harness

__all__ = ["Wishes"]

_ISOLATION = ("database", "transaction")
_ALLOWED = {"isolation": _ISOLATION, "keep": KEEP}


@dataclass(frozen=True, slots=True)
class Wishes:
    """How one test gets its database, and what becomes of it.

    Args:
        keep: ``never``, ``failed`` or ``always``.
        leaks: ``warn``, ``error`` or ``ignore``.
    """

    keep: str
    leaks: str

    @classmethod
    def of(cls, item: pytest.Item, harness: Harness) -> Wishes:
        """The wishes of a test: the command line wins over the marker, the marker over the settings.

        Raises:
            ConfigurationError: The marker is wrong, or asks for what this version cannot do.
        """
        marked = _marked(item)
        settings = harness.settings
        if "isolation" not in marked and settings.isolation != "database":
            origin = str(harness.loaded.provenance["isolation"])
            raise ConfigurationError([_unsupported(origin, settings.isolation)])
        keep = harness.option("elefast_keep") or marked.get("keep", settings.keep)
        return cls(keep, settings.leaks)


def _marked(item: pytest.Item) -> dict[str, Any]:
    """The arguments of the test's markers; those nearer to the test win."""
    marked: dict[str, Any] = {}
    problems: list[Problem] = []
    for node, marker in item.iter_markers_with_node("elefast"):
        place = f"@pytest.mark.elefast of {node.nodeid}"
        if marker.args:
            problems.append(Problem(place, "", f"takes no positional arguments, got {marker.args[0]!r}"))
        for name, value in marker.kwargs.items():
            allowed = _ALLOWED.get(name)
            if allowed is None:
                problems.append(Problem(place, name, "unknown, expected isolation or keep"))
            elif value not in allowed:
                problems.append(Problem(place, name, f"expected {', '.join(allowed)}, got {value!r}"))
            elif value == "transaction":
                problems.append(_unsupported(place, value))
            else:
                marked.setdefault(name, value)
    if problems:
        raise ConfigurationError(problems)
    return marked


def _unsupported(origin: str, isolation: str) -> Problem:
    return Problem(origin, "isolation", f'"{isolation}" is not supported by this version yet, expected "database"')

"""Rules for scenarios: their names, the bases that they are built on, and the one that tests start from.

`elefast.config.rules` reports what is broken. This module must not know what a scenario is built from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from elefast.config.keys import KeyPath, closest
from elefast.config.messages import format_value, quoted_list, suggestion

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["RESERVED", "broken_scenarios", "unknown_scenario"]

RESERVED = ("migrated", "seeded")
"""The names of the layers below all scenarios."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")


def broken_scenarios(settings: Settings) -> Iterator[tuple[KeyPath, str, str]]:
    """What is wrong with the scenarios: the path of the key, the message, and the code of the error."""
    known = settings.scenarios
    for name in known:
        if not _NAME.fullmatch(name):
            message = f"expected a name of at most 63 letters, digits, _ and -, got {format_value('name', name)}"
            yield ("scenarios", name), message, "wrong-value"
        elif name in RESERVED:
            yield (
                ("scenarios", name),
                f'"{name}" is the name of a layer below the scenarios, choose another',
                "wrong-value",
            )
    if settings.scenario and settings.scenario not in known:
        yield ("scenario",), unknown_scenario(settings.scenario, known), "unknown-scenario"
    for name, scenario in known.items():
        if scenario.base and scenario.base not in known:
            yield ("scenarios", name, "base"), unknown_scenario(scenario.base, known), "unknown-scenario"
    in_cycles: set[str] = set()
    for name in known:
        chain = [name]
        while (base := known[chain[-1]].base) in known and base not in chain:
            chain.append(base)
        if base == name and name not in in_cycles:
            in_cycles.update(chain)
            shown = " -> ".join([*chain, name])
            yield ("scenarios", name, "base"), f"the bases form a cycle: {shown}", "scenario-cycle"


def unknown_scenario(name: str, known: Iterable[str]) -> str:
    """The message for a scenario that does not exist.

    Args:
        name: The name that was written.
        known: The names that exist.
    """
    names = sorted(known)
    there = f"the known ones are {quoted_list(names)}" if names else "there are none; write a table [scenarios.NAME]"
    return f"unknown scenario {format_value('scenario', name)}, {there}{suggestion(closest(name, names))}"

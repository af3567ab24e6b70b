"""Chooses one of elefast's databases by its project, its test or its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from elefast.errors import UsageError
from elefast.postgres.names import Kind
from elefast.runtime.text import one_line

if TYPE_CHECKING:
    from elefast.databases.inventory import Item

__all__ = ["chosen", "counted", "described", "latest", "of_project"]

_LONGEST = 1000


def of_project(items: Sequence[Item], project: str, *, everything: bool) -> tuple[list[Item], list[Item]]:
    """The databases that a command of `project` shows, and the rest.

    The first ones include databases that name no project: most belong to runs that go on, or that were killed.

    Args:
        items: All databases.
        project: The project of the stack.
        everything: Include those of all projects.
    """
    ours = [item for item in items if everything or item.project in ("", project)]
    return ours, [item for item in items if item not in ours]


def chosen(items: Sequence[Item], wanted: str, project: str, *, everything: bool = False) -> Item:
    """The one database that `wanted` means: its name, its test, or a part of either.

    Args:
        items: All databases.
        wanted: The user's words.
        project: The project whose databases count.
        everything: Databases of all projects count.

    Raises:
        UsageError: There is none, or there are several.
    """
    ours, others = of_project(items, project, everything=everything)
    for found in _matches(ours, wanted):
        if len(found) == 1:
            return found[0]
        # A test may have several kept databases. The newest is most likely the one that the user wants to see.
        if found and len({(item.project, item.test) for item in found}) == 1 and found[0].test:
            return _newest(found)
        if found:
            raise UsageError(
                f'"{wanted}" means several databases:\n'
                + "\n".join(f"  {item.name}  {described(item)}".rstrip() for item in found)
                + "\nName one of them in full.",
                code="database-ambiguous",
            )
    elsewhere = {item.project for found in _matches(others, wanted) for item in found}
    where = f"; {_and(sorted(elsewhere))} has one, which --all-projects finds" if elsewhere else ""
    raise UsageError(
        f'there is no database of project {project} that "{wanted}" means{where}; `elefast ls` lists all',
        code="database-not-found",
    )


def latest(items: Sequence[Item], project: str) -> Item | None:
    """The database that the user most likely wants to see: that of the only running test, else the one kept last.

    None if there is neither.
    """
    ours = [item for item in items if item.project == project and item.test]
    running = [item for item in ours if item.kind is Kind.CLONE]
    if len(running) == 1:
        return running[0]
    kept = [item for item in ours if item.kind is Kind.KEPT]
    return _newest(kept) if kept else None


def described(item: Item) -> str:
    """Describe a database: its kind, its project and its test, as far as they are known."""
    from elefast.databases.inventory import KINDS

    running = item.kind is Kind.CLONE and item.test
    known = [
        "running test" if running else KINDS[item.kind],
        one_line(f"project {item.project}", _LONGEST) if item.project else "project unknown",
        one_line(f"layer {item.layer}", _LONGEST) if item.layer else "",
        one_line(item.test, _LONGEST),
    ]
    return ", ".join(filter(None, known))


def counted(items: Sequence[Item]) -> str:
    """How many databases each project has, in words: ``shop 3, unknown 1``."""
    found: dict[str, int] = {}
    for item in items:
        found[item.project] = found.get(item.project, 0) + 1
    return ", ".join(f"{one_line(project) or 'unknown'} {number}" for project, number in sorted(found.items()))


def _matches(items: Sequence[Item], wanted: str) -> tuple[list[Item], list[Item]]:
    """The databases whose name or test is `wanted`, and those whose name or test contains it."""
    return (
        [item for item in items if wanted in (item.name, item.test)],
        [item for item in items if wanted in item.name or wanted in item.test],
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join(f"project {one_line(word)}" for word in words)


def _newest(items: Sequence[Item]) -> Item:
    # The time has whole seconds. Of two databases of one second, the newer one is later in the catalog.
    return max(reversed(items), key=lambda item: item.since)

"""Choosing one of elefast's databases by what people know of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from elefast.errors import UsageError
from elefast.printable import short

if TYPE_CHECKING:
    from elefast.kernel.inventory import Item

__all__ = ["chosen", "newest_kept"]

_LONGEST = 1000


def chosen(items: Sequence[Item], wanted: str) -> str:
    """The name of the one database that `wanted` means: its name, its test, or a part of either.

    Raises:
        UsageError: There is none, or there are several.
    """
    for found in (
        [item for item in items if wanted in (item.name, item.test)],
        [item for item in items if wanted in item.name or wanted in item.test],
    ):
        if len(found) == 1:
            return found[0].name
        # One test may have been kept more than once; the newest is the one that somebody wants to see.
        if found and len({item.test for item in found}) == 1 and found[0].test:
            return _newest(found).name
        if found:
            raise UsageError(
                f'"{wanted}" means several databases:\n'
                + "\n".join(f"  {item.name}  {short(item.test, _LONGEST)}".rstrip() for item in found)
                + "\nName one of them in full.",
                code="database-ambiguous",
            )
    raise UsageError(
        f'there is no database of elefast\'s that "{wanted}" means; `elefast ls` lists all',
        code="database-not-found",
    )


def newest_kept(items: Sequence[Item]) -> str | None:
    """The database that was kept last; None where none was."""
    kept = [item for item in items if item.test]
    return _newest(kept).name if kept else None


def _newest(items: Sequence[Item]) -> Item:
    # Of two in one second the later one is the later in the catalog.
    return max(reversed(items), key=lambda item: item.since)

"""The section of a test's report that shows what the test changed in its database.

It renders what the database says. It must not hide the failure of a test behind an error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from elefast.errors import ElefastError
from elefast.runtime.text import escape_controls, one_line

if TYPE_CHECKING:
    from elefast.isolation.database import DatabaseCheckout

__all__ = ["changes_section"]

_log = logging.getLogger("elefast")

_SESSIONS_SHOWN = 3


def changes_section(checkout: DatabaseCheckout, test: str) -> str:
    """What differs in the database of a test from its template; empty where nothing does.

    Args:
        checkout: The database.
        test: The node id of the test; tests of a scope share a database, whose name is that of the scope.
    """
    try:
        changes, uncommitted = checkout.changes(), checkout.uncommitted()
    except ElefastError as error:
        _log.info("no changes are shown for %s: %s", test, error)
        return ""
    lines = changes.lines()
    if lines:
        whose = "The test" if checkout.test == test else f"The tests of {one_line(checkout.test)}"
        lines.insert(0, f"{whose} changed in the database, compared with the template:")
    if uncommitted:
        lines += [
            "Not committed, so not shown:",
            *(f"  {one_line(text, 110)}" for text in uncommitted[:_SESSIONS_SHOWN]),
        ]
    return escape_controls("\n".join(lines))

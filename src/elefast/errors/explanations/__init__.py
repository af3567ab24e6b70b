"""The long story of every code that an error of elefast has: `elefast explain CODE` and `docs/reference/errors.md`.

It knows the classes of `elefast.errors` and nothing of what raises them. Only who shows an explanation imports it:
an error itself has no more than the code.
"""

from __future__ import annotations

import difflib

from elefast.errors.explanations import commands, configuration, databases, docker, local, migrations, servers
from elefast.errors.explanations.explanation import Explanation
from elefast.errors.explanations.topics import TOPICS, Topic, topic

__all__ = ["EXPLANATIONS", "TOPICS", "Explanation", "Topic", "closest", "find", "topic"]

EXPLANATIONS: tuple[Explanation, ...] = (
    *configuration.EXPLANATIONS,
    *servers.EXPLANATIONS,
    *local.EXPLANATIONS,
    *docker.EXPLANATIONS,
    *migrations.EXPLANATIONS,
    *databases.EXPLANATIONS,
    *commands.EXPLANATIONS,
)
"""All of them, by area; the order within one is that of the reference."""


def find(code: str) -> Explanation | None:
    """The explanation of a code, or None where there is no such code."""
    return next((one for one in EXPLANATIONS if one.code == code), None)


def closest(code: str) -> str:
    """The code or topic that was probably meant, or an empty string."""
    known = [*(one.code for one in EXPLANATIONS), *(one.name for one in TOPICS)]
    return next(iter(difflib.get_close_matches(code.lower().replace("_", "-"), known, 1)), "")

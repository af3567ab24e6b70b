"""Where a value came from: an argument, a variable, or a line of a file.

Errors and reports show `str()` of an `Origin`, so that the reader can go there and change the value.
This module must not know how the place was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from elefast.runtime.text import one_line

__all__ = ["DEFAULT", "Origin"]

Kind = Literal["argument", "environment", "file", "default"]
_ORDER: tuple[Kind, ...] = ("argument", "environment", "file", "default")


@dataclass(frozen=True, slots=True)
class Origin:
    """The place where a value was written.

    Args:
        kind: What sort of place it is.
        name: The keyword argument, the variable, or the file (its name within the project).
        line: The line in the file, from 1; 0 where it is not known or not a file.
    """

    kind: Kind
    name: str = ""
    line: int = 0

    def __str__(self) -> str:
        name = one_line(self.name)
        if self.kind == "argument":
            return f"from_config({name}=...)"
        if self.kind == "environment":
            return f"env {name}"
        if self.kind == "file":
            return f"{name}:{self.line}" if self.line else name
        return "default"

    @property
    def sort_key(self) -> tuple[int, str, int]:
        """Orders problems: arguments, variables, then the files line by line."""
        return (_ORDER.index(self.kind), self.name, self.line)


DEFAULT = Origin("default")

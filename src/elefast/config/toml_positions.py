"""The line of every key in a TOML file.

`tomllib` gives values without their places, so this reads the text a second time, for places only.
It may be lenient, because `tomllib` has accepted the text before.
This module must not know which keys mean something.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress

__all__ = ["line_of", "lines"]

Place = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?!")'  # up to two quotes may stand before the closing three
    r"|'''.*?'''(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")


def lines(text: str) -> dict[Place, int]:
    """The line, from 1, of each table, key and list item.

    Args:
        text: A TOML document that `tomllib` can read.

    Returns:
        Lines by path, such as `("tool", "elefast", "seed", 0)`. A table that is written at several places
        has the line of the first, and so have tables that a dotted key makes.
    """
    reader = _Reader(text)
    # A mistake here must not turn a valid configuration into an error; a place that is missing only costs a line.
    with suppress(ValueError, IndexError, RecursionError):
        reader.read()
    return reader.found


def line_of(places: Mapping[Place, int], path: Iterable[str | int]) -> int:
    """The line of `path`, or of the nearest thing around it that has one; 0 if nothing has."""
    path = tuple(path)
    while path and path not in places:
        path = path[:-1]
    return places.get(path, 0)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Place, int] = {}
        self.counted_to = 0
        self.line = 1

    def read(self) -> None:
        table: Place = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                brackets = 2 if self.text.startswith("[[", self.at) else 1
                self.at += brackets
                self.skip(_SPACE)
                table = self.key(())
                self.skip(_SPACE)
                self.at += brackets
            else:
                self.pair(table)
            self.skip(_BLANK)

    def pair(self, table: Place) -> None:
        path = self.key(table)
        self.skip(_SPACE)
        self.at += 1  # the "="
        self.skip(_SPACE)
        self.value(path)

    def key(self, table: Place) -> Place:
        """Read a dotted key, and note the line of each table on the way."""
        path = table
        while True:
            path = (*path, self.part())
            self.found.setdefault(path, self.current_line())
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return path
            self.at += 1
            self.skip(_SPACE)

    def part(self) -> str:
        if self.text[self.at] in "\"'":
            name: str = tomllib.loads(f"name = {self.take(_STRING)}")["name"]
            return name
        return self.take(_BARE)

    def value(self, path: Place) -> None:
        opening = self.text[self.at]
        if opening == "[":
            self.items(path)
        elif opening == "{":
            self.inline_table(path)
        elif opening in "\"'":
            self.take(_STRING)
        else:
            self.skip(_SCALAR)

    def items(self, path: Place) -> None:
        index = 0
        while self.next_inside("]"):
            self.found[(*path, index)] = self.current_line()
            self.value((*path, index))
            index += 1

    def inline_table(self, path: Place) -> None:
        while self.next_inside("}"):
            self.pair(path)

    def next_inside(self, closing: str) -> bool:
        """Go past the opening bracket or a comma; False, and past the closing one, if nothing follows."""
        self.skip(_BLANK)
        if self.text[self.at] in "[{,":
            self.at += 1
            self.skip(_BLANK)
        if self.text[self.at] == closing:
            self.at += 1
            return False
        return True

    def skip(self, pattern: re.Pattern[str]) -> None:
        self.take(pattern)

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not TOML at line {self.current_line()}")
        self.at = match.end()
        return match[0]

    def current_line(self) -> int:
        self.line += self.text.count("\n", self.counted_to, self.at)
        self.counted_to = self.at
        return self.line

"""Explanations of the codes of errors, and the essentials of the guides, for `elefast explain` and the documentation.

The texts are the Markdown files beside this module: one for each group of codes, and `topics.md`, because an
installation by pip does not have the guides of `docs/`. In a group, a heading of the second level is the class of the
errors, and one of the third level a code. Only code in backticks is marked up.

An error has no more than its code, so that raising it stays cheap: only a command that shows explanations imports this
package, which reads all of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elefast import errors
from elefast.errors import ElefastError, LeakWarning

__all__ = [
    "EXPLANATIONS",
    "TOPICS",
    "Explanation",
    "Topic",
    "closest",
    "find",
    "parse_explanations",
    "parse_topics",
    "topic",
]

# The order of the reference.
_GROUPS = ("configuration", "servers", "local", "docker", "migrations", "databases", "commands")

_CLASS = re.compile(r"## (?P<name>\w+)\n")
_EXPLANATION = re.compile(
    r"### (?P<code>[a-z-]+)\n\n"
    r"\*\*(?P<title>.+)\.\*\*\n(?P<meaning>(?:\S.*\n)+)\n"
    r"Usual causes:\n\n(?P<causes>(?:- .+\n)+)\n"
    r"What to do:\n\n(?P<remedy>(?:- .+\n)+)"
)
_TOPIC = re.compile(r"## (?P<name>[a-z-]+)\n\n\*\*(?P<title>.+)\.\*\*\n\n(?P<lines>(?:- .+\n)+)")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known about a code besides the message of an error.

    Args:
        code: As in the note of an error: ``docker-unreachable``.
        raised_as: The class of the errors with this code.
        title: The problem in a few words, without a full stop.
        meaning: The operation that elefast could not or would not do, and the reason.
        causes: The usual causes, the most likely first.
        remedy: One step or one alternative each, with commands and keys in backticks.
    """

    code: str
    raised_as: type[ElefastError] | type[LeakWarning]
    title: str
    meaning: str
    causes: tuple[str, ...]
    remedy: tuple[str, ...]

    @property
    def exit_status(self) -> int | None:
        """The exit status of the command line; None for a warning."""
        return self.raised_as.exit_status if issubclass(self.raised_as, ElefastError) else None


@dataclass(frozen=True, slots=True)
class Topic:
    """The essentials of a guide.

    Args:
        name: As on the command line, such as ``from-fixtures``; the name of the guide if there is one.
        title: The subject, without a full stop.
        lines: One step or one fact each, with commands and keys in backticks.
    """

    name: str
    title: str
    lines: tuple[str, ...]


def parse_explanations(text: str, file: str) -> tuple[Explanation, ...]:
    """The explanations of one group, in the order of the file.

    Args:
        text: The content of the file.
        file: Its name, for the message of an error.

    Raises:
        ValueError: A part of the file has another form, or names a class that `elefast.errors` does not have.
    """
    found: list[Explanation] = []
    raised_as: type[ElefastError] | type[LeakWarning] | None = None
    for part in _parts(text):
        if heading := _CLASS.fullmatch(part):
            raised_as = _error_class(heading["name"], file)
        elif raised_as is not None and (match := _EXPLANATION.fullmatch(part)):
            code, title, meaning, causes, remedy = match.groups()
            meaning = " ".join(meaning.splitlines())
            found.append(Explanation(code, raised_as, title, meaning, _items(causes), _items(remedy)))
        else:
            raise _malformed(part, file)
    return tuple(found)


def parse_topics(text: str, file: str) -> tuple[Topic, ...]:
    """The topics of a file, in its order.

    Args:
        text: The content of the file.
        file: Its name, for the message of an error.

    Raises:
        ValueError: A part of the file has another form.
    """
    found: list[Topic] = []
    for part in _parts(text):
        match = _TOPIC.fullmatch(part)
        if match is None:
            raise _malformed(part, file)
        found.append(Topic(match["name"], match["title"], _items(match["lines"])))
    return tuple(found)


def _parts(text: str) -> Iterator[str]:
    """The text of each heading below the first one, which is the title of the file."""
    yield from re.split(r"\n(?=#)", text)[1:]


def _items(text: str) -> tuple[str, ...]:
    """The items of a list."""
    return tuple(line.removeprefix("- ") for line in text.splitlines())


def _error_class(name: str, file: str) -> type[ElefastError] | type[LeakWarning]:
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, ElefastError | LeakWarning):
        return found
    raise ValueError(f'{file}: elefast.errors has no class "{name}"')


def _malformed(part: str, file: str) -> ValueError:
    heading = part.partition("\n")[0]
    return ValueError(f'{file}: "{heading}" does not have the form of the other entries')


def _read(file: str) -> str:
    return Path(__file__).with_name(file).read_text(encoding="utf-8")


EXPLANATIONS: tuple[Explanation, ...] = tuple(
    explanation for group in _GROUPS for explanation in parse_explanations(_read(f"{group}.md"), f"{group}.md")
)
"""All explanations, by group; the order within a group is that of the reference."""

TOPICS: tuple[Topic, ...] = parse_topics(_read("topics.md"), "topics.md")
"""All topics, in the order in which `elefast explain` lists them."""


def find(code: str) -> Explanation | None:
    """The explanation of a code, or None if there is no such code."""
    return next((one for one in EXPLANATIONS if one.code == code), None)


def topic(name: str) -> Topic | None:
    """The topic with this name, or None if there is no such topic."""
    return next((one for one in TOPICS if one.name == name), None)


def closest(code: str) -> str:
    """The most similar code or topic, or an empty string."""
    known = [*(one.code for one in EXPLANATIONS), *(one.name for one in TOPICS)]
    return next(iter(difflib.get_close_matches(code.lower().replace("_", "-"), known, 1)), "")

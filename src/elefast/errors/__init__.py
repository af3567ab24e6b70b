"""Every error that elefast raises, and the exit status that the command line gives it.

    ElefastError                      1
    ├── ConfigurationError            2   what the project wrote is wrong
    ├── MissingDependencyError        2   a driver or an extra is not installed
    ├── UsageError                    2   a command was called in a way that means nothing
    ├── RefusedError                  4   elefast could, but must not: the object is not its own
    ├── ServerError                   3
    │   ├── ServerUnavailableError        no provider could give a server
    │   ├── ServerStartError              a server of our own did not start
    │   ├── DatabaseNotReadyError         the server does not answer, or not to us
    │   └── MissingRightsError            the role may not do what is needed
    ├── MigrationError                5   building the template failed
    └── ClosedError                   1   used after close()

    LeakWarning                           a warning, not an error: something was left open

A message says what is wrong, where, why, and what to do next, in that order.
Each error has a code, which `elefast explain CODE` and `docs/reference/errors.md` say more about; a note of the
exception names it, so that tracebacks, pytest and the command line show it below the message.
Text from users and servers is escaped in it, so that it can be shown anywhere.
This module knows nothing of the rest, so that everything may import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elefast.runtime.text import one_line, shorten_lines

__all__ = [
    "ClosedError",
    "ConfigurationError",
    "DatabaseNotReadyError",
    "ElefastError",
    "LeakWarning",
    "MigrationError",
    "MissingDependencyError",
    "MissingRightsError",
    "Problem",
    "RefusedError",
    "ServerError",
    "ServerStartError",
    "ServerUnavailableError",
    "UsageError",
    "explain_hint",
    "full_text",
]

_MORE = "more: elefast explain "
_LONGEST_PLACE = 250
_MOST = 50


class ElefastError(Exception):
    """The base of every error that elefast raises on purpose.

    Args:
        args: The message.
        code: Its name in `elefast.errors.explanations`, such as ``docker-unreachable``; empty for an error that only
            passes between parts of elefast.
    """

    exit_status = 1

    def __init__(self, *args: object, code: str = "") -> None:
        super().__init__(*(shorten_lines(arg) if isinstance(arg, str) else arg for arg in args))
        self.code = code
        _add_note(self, self.codes)

    @property
    def codes(self) -> tuple[str, ...]:
        """Every code that explains something of it, once; only a configuration can have more than one."""
        return (self.code,) if self.code else ()


def explain_hint(error: BaseException) -> str:
    """The note that says where more is to be read, or an empty string."""
    return next((note for note in getattr(error, "__notes__", ()) if note.startswith(_MORE)), "")


def full_text(error: BaseException) -> str:
    """An error whole, as people should see it: its message and its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def _add_note(error: BaseException, codes: Sequence[str]) -> None:
    # Here and not where it is raised: an error that is kept is raised again for every test.
    if codes:
        error.add_note(_MORE + " ".join(codes))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration.

    Args:
        origin: Where it was written: ``pyproject.toml:12``, ``env ELEFAST_DOCKER__PORT``,
            ``from_config(profile=...)``; empty where there is no such place.
        key: The dotted key, such as ``docker.port``; empty for a whole file.
        message: What is wrong and what was expected, with the value.
        code: Its name in `elefast.errors.explanations`, such as ``unknown-key``.
    """

    origin: str
    key: str
    message: str
    code: str = ""

    def __str__(self) -> str:
        message = shorten_lines(self.message)
        what = f"{one_line(self.key, _LONGEST_PLACE)}: {message}" if self.key else message
        return f"{one_line(self.origin, _LONGEST_PLACE)}  {what}" if self.origin else what


class ConfigurationError(ElefastError):
    """The configuration is wrong; `problems` has every reason, in the order of the files, the message the first ones.

    Args:
        problems: All that is wrong, one entry each.
        hint: What to run or to read next; the last line of the message.
        code: For problems without a code.
    """

    exit_status = 2

    def __init__(self, problems: Sequence[Problem] | str, hint: str = "", *, code: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem("", "", problems)]
        self.problems = tuple(one if one.code or not code else replace(one, code=code) for one in problems)
        self.hint = hint
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in elefast's configuration"
        lines = [head, *(f"  {line}" for line in self.shown)]
        if hint:
            lines.append(hint)
        super().__init__("\n".join(lines), code=next((one.code for one in self.problems if one.code), ""))

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(problem.code for problem in self.problems if problem.code))

    @property
    def shown(self) -> list[str]:
        """A line for each of the first problems, and one for all others: many thousands are no help to anybody."""
        rest = len(self.problems) - _MOST
        return [*map(str, self.problems[:_MOST]), *([f"… and {rest:,} more"] if rest > 0 else [])]

    def placed(self, places: Mapping[str, object]) -> ConfigurationError:
        """The same error, with the place of each key that had none because it was found wrong only when it was used.

        Args:
            places: Where the keys were written, by key; `default` for a default.
        """
        problems = [
            replace(one, origin=str(places[one.key]))
            if not one.origin and str(places.get(one.key, "default")) != "default"
            else one
            for one in self.problems
        ]
        return self if tuple(problems) == self.problems else type(self)(problems, self.hint)

    def __reduce__(self) -> tuple[Any, ...]:
        # What `args` has is the text, from which it cannot be made again.
        return type(self), (self.problems, self.hint), self.__dict__


class MissingDependencyError(ElefastError):
    """A driver or an optional dependency is not installed; the message has the install line."""

    exit_status = 2


class UsageError(ElefastError):
    """A command was called in a way that means nothing here."""

    exit_status = 2


class RefusedError(ElefastError):
    """Elefast could do it, but must not, because the object is not its own or other tests use it."""

    exit_status = 4


class ServerError(ElefastError):
    """There is no server to work with."""

    exit_status = 3


class ServerUnavailableError(ServerError):
    """No provider could give a server; the message lists what was tried and why each failed."""


class ServerStartError(ServerError):
    """A server that elefast starts did not start; the message ends with the end of its log."""


class DatabaseNotReadyError(ServerError):
    """The server does not answer in time, or rejects the login for good."""


class MissingRightsError(ServerError):
    """The role lacks a right; the message has the statement that gives it."""


class MigrationError(ElefastError):
    """The schema could not be built in the template database."""

    exit_status = 5


class ClosedError(ElefastError):
    """A stack or server was used after it was closed."""


class LeakWarning(UserWarning):
    """A test left a connection open on a database that is being dropped; elefast ended it."""

    code = "left-behind"

    def __init__(self, *args: object) -> None:
        super().__init__(*(shorten_lines(arg) if isinstance(arg, str) else arg for arg in args))
        _add_note(self, [self.code])

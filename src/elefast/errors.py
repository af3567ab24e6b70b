"""Every error that elefast raises, and the exit status that the command line gives it.

    ElefastError                      1
    ├── ConfigurationError            2   what the project wrote is wrong
    ├── MissingDependencyError        2   a driver or an extra is not installed
    ├── RefusedError                  4   elefast could, but will not: not ours, not this machine
    ├── ServerError                   3
    │   ├── ServerUnavailableError        no provider could give a server
    │   ├── ServerStartError              a server of our own did not start
    │   ├── DatabaseNotReadyError         the server does not answer, or not to us
    │   └── MissingRightsError            the role may not do what is needed
    ├── MigrationError                5   building the template failed
    └── ClosedError                   1   used after close()

    LeakWarning                           a warning, not an error: something was left open

A message says what is wrong, where, why, and what to do next, in that order.
This module knows nothing of the rest, so that everything may import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
]


class ElefastError(Exception):
    """The base of every error that elefast raises on purpose."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration.

    Args:
        origin: Where it was written: ``pyproject.toml:12``, ``env ELEFAST_DOCKER__PORT``,
            ``from_config(profile=...)``; empty where there is no such place.
        key: The dotted key, such as ``docker.port``; empty for a whole file.
        message: What is wrong and what was expected, with the value.
    """

    origin: str
    key: str
    message: str

    def __str__(self) -> str:
        what = f"{self.key}: {self.message}" if self.key else self.message
        return f"{self.origin}  {what}" if self.origin else what


class ConfigurationError(ElefastError):
    """The configuration is wrong; `problems` has every reason, in the order of the files.

    Args:
        problems: All that is wrong, one entry each.
        hint: What to run or to read next; the last line of the message.
    """

    exit_status = 2

    def __init__(self, problems: Sequence[Problem] | str, hint: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem("", "", problems)]
        self.problems = tuple(problems)
        self.hint = hint
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in elefast's configuration"
        lines = [head, *(f"  {problem}" for problem in self.problems)]
        if hint:
            lines.append(hint)
        super().__init__("\n".join(lines))


class MissingDependencyError(ElefastError):
    """A driver or an optional dependency is not installed; the message has the install line."""

    exit_status = 2


class RefusedError(ElefastError):
    """Elefast could do it, but must not: a server of another machine, an object that is not its own."""

    exit_status = 4


class ServerError(ElefastError):
    """There is no server to work with."""

    exit_status = 3


class ServerUnavailableError(ServerError):
    """No provider could give a server; the message lists what was tried and why each failed."""


class ServerStartError(ServerError):
    """A server that elefast starts did not start; the message ends with the end of its log."""


class DatabaseNotReadyError(ServerError):
    """The server does not answer in time, or answers that it will never let us in."""


class MissingRightsError(ServerError):
    """The role lacks a right; the message has the statement that gives it."""


class MigrationError(ElefastError):
    """The schema could not be built in the template database."""

    exit_status = 5


class ClosedError(ElefastError):
    """A stack or server was used after it was closed."""


class LeakWarning(UserWarning):
    """A test left a connection open on a database that is being dropped; elefast ended it."""

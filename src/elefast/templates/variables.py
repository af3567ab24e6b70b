"""The environment variables that the build of a template was seen to read.

A value may be a password, so only a salted digest of it is stored.
`elefast.migrators.sandbox.variable_recorder` observes the reads; this module must not know how.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elefast.runtime.hashing import digest

__all__ = ["UNSET", "Variables", "is_of_the_run", "is_of_the_shell", "matching"]

UNSET = ""
"""The digest of a variable that is not set."""

_DIGEST_LENGTH = 20
_ANY_CASE = "~"
_ANY_REST = "*"

# pytest and pytest-xdist set these; they differ from worker to worker and from test to test.
_OF_THE_RUN = re.compile(r"PYTEST_(CURRENT_TEST|XDIST_\w+|VERSION)")
# These differ between shells, terminals and logins. Elefast's own variables are in the key, or have no effect.
_OF_THE_SHELL = re.compile(
    r"_|PWD|OLDPWD|SHLVL|TERM|TERM_\w+|COLORTERM|COLUMNS|LINES|WINDOWID|DISPLAY|WAYLAND_DISPLAY|SSH_\w+|XDG_SESSION_\w+"
    r"|DBUS_\w+|NO_COLOR|FORCE_COLOR|TMUX\w*|STY|VTE_VERSION|KONSOLE_\w+|ITERM_\w+|PS1|PPID|RANDOM|SECONDS|PYTEST_\w+"
    r"|_?ELEFAST_\w+|TESTING_DB_URL|COVERAGE_\w+|COV_CORE_\w+"
)


def is_of_the_run(name: str) -> bool:
    """Whether a variable identifies a worker or a test of one run. Such a variable is never an input."""
    return _OF_THE_RUN.fullmatch(name) is not None


def is_of_the_shell(name: str) -> bool:
    """Whether a variable describes a shell, a terminal or a run. It is an input only where the project names it."""
    return _OF_THE_SHELL.fullmatch(name) is not None


def matching(pattern: str, environment: Mapping[str, str]) -> list[str]:
    """The sorted names of the variables that `pattern` matches.

    Args:
        pattern: A name. With ``~`` in front of it, upper and lower case match each other. ``*`` at its end matches
            any rest.
        environment: The variables to search.
    """
    any_case, any_rest = pattern.startswith(_ANY_CASE), pattern.endswith(_ANY_REST)
    text = pattern.removeprefix(_ANY_CASE).removesuffix(_ANY_REST)
    if not any_case and not any_rest:
        return [text] if text in environment else []
    text = text.lower() if any_case else text
    names = {name: name.lower() if any_case else name for name in environment}
    return sorted(name for name, as_is in names.items() if (as_is.startswith(text) if any_rest else as_is == text))


@dataclass(frozen=True, slots=True)
class Variables:
    """Variables with digests of their values.

    Args:
        salt: Part of each digest, so that equal values of two templates do not look equal.
        digests: Each pattern (see `matching`) with the digest of the variables that it matched; `UNSET` for none.
        left_out: The names that are no inputs, if code has read the whole environment. Then all other variables are
            inputs, also those that are set later. None if no code has done that.
    """

    salt: str = ""
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    left_out: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, patterns: Iterable[str], environment: Mapping[str, str], left_out: Iterable[str] | None = None
    ) -> Variables:
        """Record the variables of `environment` that `patterns` match; all of them if `left_out` is given.

        Args:
            patterns: Patterns as for `matching`.
            environment: The variables.
            left_out: As the attribute.
        """
        salt = secrets.token_hex(8)
        names = set(patterns)
        if left_out is not None:
            left_out = tuple(sorted(left_out))
            names |= _counting(environment, left_out)
        found = {name: _digest(salt, name, environment) for name in sorted(names)}
        return cls(salt if found else "", found, left_out)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `from_json`."""
        data: dict[str, Any] = {"salt": self.salt, "digests": dict(self.digests)}
        if self.left_out is not None:
            data["left_out"] = list(self.left_out)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Variables:
        """The variables that `to_json` made `data` from."""
        left_out = data.get("left_out")
        return cls(data["salt"], dict(data["digests"]), None if left_out is None else tuple(left_out))

    def differences(self, environment: Mapping[str, str]) -> list[str]:
        """What has changed, in words without any value; empty where nothing has."""
        found: list[str] = []
        for pattern, then in self.digests.items():
            now = _digest(self.salt, pattern, environment)
            if now == then:
                continue
            word = "set" if then == UNSET else "unset" if now == UNSET else "changed"
            found.append(f"{word} variable {_shown(pattern, environment)}")
        if self.left_out is not None:
            found += [
                f"set variable {name}"
                for name in sorted(_counting(environment, self.left_out))
                if name not in self.digests
            ]
        return found


def _counting(environment: Mapping[str, str], left_out: tuple[str, ...]) -> set[str]:
    return {name for name in environment if not is_of_the_shell(name)} - set(left_out)


def _digest(salt: str, pattern: str, environment: Mapping[str, str]) -> str:
    names = matching(pattern, environment)
    if not names:
        return UNSET
    parts = [part for name in names for part in (name, environment[name])]
    return digest(salt, *(part.encode(errors="surrogateescape") for part in parts))[:_DIGEST_LENGTH]


def _shown(pattern: str, environment: Mapping[str, str]) -> str:
    """The name for messages: that of the one variable that matches, else the pattern in its usual spelling."""
    names = matching(pattern, environment)
    if len(names) == 1:
        return names[0]
    return pattern.removeprefix(_ANY_CASE).upper() if pattern.startswith(_ANY_CASE) else pattern

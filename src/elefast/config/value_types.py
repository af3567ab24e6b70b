"""The types of values that keys have: which text is accepted, and what the error says was expected.

Each type is an annotated `str`. Its check returns the value or raises `WrongValueError`, whose text never contains the
value: `messages` adds that, and hides passwords.
This module must not know which keys there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from elefast.postgres import url_variables
from elefast.runtime.text import one_line

__all__ = [
    "Age",
    "CheckpointTimeout",
    "Choices",
    "ContainerName",
    "EngineSize",
    "ExportedVariable",
    "FilePath",
    "MemorySize",
    "NotEmpty",
    "OptionalTarget",
    "Pattern",
    "ServerUrl",
    "ServerVersion",
    "Since",
    "Target",
    "Targets",
    "TmpfsSize",
    "WrongValueError",
    "did_you_mean",
    "is_target",
]


class WrongValueError(ValueError):
    """A value that cannot be: "expected ..." first, then advice that follows after the value.

    Args:
        expected: What would have been right.
        advice: What to write instead, such as `did you mean "18"?`.
    """

    def __init__(self, expected: str, advice: str = "") -> None:
        super().__init__(f"expected {expected}" + (f" ({advice})" if advice else ""))
        self.expected = expected
        self.advice = advice


@dataclass(frozen=True, slots=True)
class FilePath:
    """Marks paths and globs, which are relative to the file that has them.

    Args:
        or_target: `module:name` is allowed as well and is no path.
    """

    or_target: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression for the JSON Schema, so that editors can say what the check would say."""

    regex: str


class Since:
    """Says which version of elefast a key came with, where that is not the first one that had a configuration.

    Args:
        version: Such as ``0.3.0``.
    """

    def __init__(self, version: str) -> None:
        self.version = version


class Choices:
    """Says what each value of a `Literal` means.

    Args:
        meanings: The value and its meaning, in the order in which they are shown.
    """

    def __init__(self, **meanings: str) -> None:
        self.meanings = meanings


def is_target(value: str) -> bool:
    """Whether `value` is written as `module:name` or `package.module:name.attribute`."""
    module, colon, name = value.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def did_you_mean(better: str) -> str:
    """Advice to write `better`."""
    return f'did you mean "{one_line(better)}"?'


def _matching(regex: str, expected: str, correct: Callable[[str], str] | None = None) -> Callable[[str], str]:
    pattern = re.compile(regex)

    def check(value: str) -> str:
        if pattern.fullmatch(value):
            return value
        better = correct(value) if correct else ""
        raise WrongValueError(expected, did_you_mean(better) if better and pattern.fullmatch(better) else "")

    return check


def _not_empty(value: str) -> str:
    if not value.strip():
        raise WrongValueError("a string that is not empty")
    return value


def _target(value: str) -> str:
    if not is_target(value):
        head, _, last = value.rpartition(".")
        better = f"{head}:{last}"
        raise WrongValueError('"module:name"', did_you_mean(better) if is_target(better) else "")
    return value


def _optional_target(value: str) -> str:
    return _target(value) if value else value


def _targets(value: str | list[str]) -> str | list[str]:
    if isinstance(value, str):
        return _optional_target(value)
    for item in value:
        _target(item)
    return value


def _server_version(value: str) -> str:
    from packaging.specifiers import SpecifierSet

    try:
        SpecifierSet(value).contains("18.1")
    except ValueError:  # InvalidSpecifier; or, when it is used, a number of thousands of digits
        better = f">={value}" if re.fullmatch(r"\d+(\.\d+)?", value) else ""
        advice = did_you_mean(better) if better else ""
        raise WrongValueError('a version specifier such as ">=14" or ">=16,<19"', advice) from None
    return value


_UNITS = {unit.lower(): unit for unit in ("B", "kB", "MB", "GB", "TB")}
_MEMORY = r"([1-9][0-9]{0,15}(B|kB|MB|GB|TB)?)?"
_ENGINE_SIZE = r"([1-9][0-9]{0,15}[kmgKMG]?)?"
_TMPFS_SIZE = r"[1-9][0-9]{0,15}[kmgKMG]?"
_TIME = r"([1-9][0-9]{0,15}(us|ms|s|min|h|d)?)?"
_AGE = r"([1-9][0-9]{0,5}(s|min|h|d))?"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_CONTAINER = r"([a-zA-Z0-9][a-zA-Z0-9_.-]*)?"


def _with_postgres_unit(value: str) -> str:
    """The size with the unit as PostgreSQL spells it: `128mb` and `128M` become `128MB`."""
    match = re.fullmatch(r"\s*([0-9]+)\s*([a-zA-Z]+)\s*", value)
    if not match:
        return ""
    number, unit = match[1], match[2].lower()
    return number + _UNITS.get(unit, _UNITS.get(unit + "b", ""))


def _with_engine_unit(value: str) -> str:
    """The size with the unit as container engines spell it: `512MB` and `512 MiB` become `512m`."""
    match = re.fullmatch(r"\s*([0-9]+)\s*([kmg])i?b?\s*", value.lower())
    return match[1] + match[2] if match else ""


_check_memory = _matching(_MEMORY, 'a memory size such as "128MB"', _with_postgres_unit)
_check_engine_size = _matching(_ENGINE_SIZE, 'a size such as "256m"', _with_engine_unit)
_check_tmpfs_size = _matching(_TMPFS_SIZE, 'true, false or a size such as "512m"', _with_engine_unit)
_check_time = _matching(_TIME, 'a time such as "30min"')
_check_age = _matching(_AGE, 'a time such as "12h" or "7d"')
_check_variable = _matching(_VARIABLE, 'the name of a variable such as "DATABASE_URL"')
_check_container = _matching(_CONTAINER, "a container name: letters, digits and _ . -")


def _check_export(value: str) -> str:
    try:
        url_variables.ExportedVariable.parse(value)
    except url_variables.MalformedEntryError as error:
        raise WrongValueError(error.expected, error.advice) from None
    return value


def _tmpfs(value: bool | str) -> bool | str:
    return value if isinstance(value, bool) else _check_tmpfs_size(value)


def _checkpoint_timeout(value: str) -> str:
    match = re.fullmatch(r"([0-9]+)([a-z]*)", _check_time(value))
    if match:
        seconds = {"us": 1e-6, "ms": 1e-3, "": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}[match[2]]
        if not 30 <= int(match[1]) * seconds <= 86400:
            raise WrongValueError('a time from "30s" to "1d"')
    return value


def _own_variable(value: str) -> str:
    name = value.partition("=")[0]
    if name.startswith("ELEFAST_") or name == "TESTING_DB_URL":
        raise WrongValueError("a variable of the application, not one that elefast itself reads")
    return value


def _server_url(value: str) -> str:
    if not value:
        return value
    example = "postgresql://user:password@127.0.0.1:5432/postgres"
    scheme, separator, rest = value.partition("://")
    if not separator:
        raise WrongValueError(f'a URL such as "{example}"')
    dialect, plus, driver = scheme.partition("+")
    if dialect == "postgres":
        raise WrongValueError('a URL that begins with "postgresql"', f'write "postgresql{plus}{driver}://..."')
    if dialect != "postgresql" or (plus and not driver):
        raise WrongValueError('a PostgreSQL URL, "postgresql://..." or "postgresql+driver://..."')

    # SQLAlchemy reads it here because SQLAlchemy will connect with it: no second opinion about the host.
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise WrongValueError(f'a URL such as "{example}"', _escape_advice(rest)) from None
    if "@" in (url.host or ""):
        raise WrongValueError(f'a URL such as "{example}"', _escape_advice(rest))
    if url.port is not None and not 1 <= url.port <= 65535:
        raise WrongValueError("a URL with a port from 1 to 65535")
    options = [text for name, values in url.normalized_query.items() for text in (name, *values)]
    if any("\0" in text for text in (url.username or "", str(url.password or ""), *options)):
        raise WrongValueError("a URL without %00")
    reader: Any = PGDialect_psycopg  # untyped
    try:
        reader().create_connect_args(url.set(drivername="postgresql+psycopg"))
    except (ArgumentError, ValueError):
        raise WrongValueError('a URL with hosts as in "?host=a:1&host=b:2" or "?host=a,b&port=1,2"') from None
    return value


def _escape_advice(rest: str) -> str:
    return 'write "@", ":" and "/" in a password as %40, %3A and %2F' if "@" in rest else ""


NotEmpty = Annotated[str, AfterValidator(_not_empty), Pattern(r"\S")]
Target = Annotated[str, AfterValidator(_target), Pattern("^[^:]+:[^:]+$")]
OptionalTarget = Annotated[str, AfterValidator(_optional_target), Pattern("^([^:]+:[^:]+)?$")]
Targets = Annotated[str | list[str], AfterValidator(_targets)]
ServerVersion = Annotated[str, AfterValidator(_server_version)]
ServerUrl = Annotated[str, AfterValidator(_server_url), Pattern(r"^(postgresql(\+[a-z0-9_]+)?://.*)?$")]
MemorySize = Annotated[str, AfterValidator(_check_memory), Pattern(f"^{_MEMORY}$")]
EngineSize = Annotated[str, AfterValidator(_check_engine_size), Pattern(f"^{_ENGINE_SIZE}$")]
TmpfsSize = Annotated[bool | str, AfterValidator(_tmpfs), Pattern(f"^{_TMPFS_SIZE}$")]
CheckpointTimeout = Annotated[str, AfterValidator(_checkpoint_timeout), Pattern(f"^{_TIME}$")]
Age = Annotated[str, AfterValidator(_check_age), Pattern(f"^{_AGE}$")]
VariableName = Annotated[str, AfterValidator(_check_variable), AfterValidator(_own_variable), Pattern(f"^{_VARIABLE}$")]
ExportedVariable = Annotated[
    str, AfterValidator(_check_export), AfterValidator(_own_variable), Pattern(f"^{url_variables.PATTERN}$")
]
ContainerName = Annotated[str, AfterValidator(_check_container), Pattern(f"^{_CONTAINER}$")]

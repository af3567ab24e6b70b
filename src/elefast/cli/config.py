"""`elefast config`: every value that is in force, and where it came from.

It shows what it can of a configuration that is wrong as well: that is when people ask.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elefast.cli._output import add_profile
from elefast.runtime.text import escape_controls, one_line

if TYPE_CHECKING:
    from elefast.config.load import Resolved

__all__ = ["HELP", "NAME", "add_arguments", "run"]


NAME = "config"
HELP = "show the configuration that is in force here, and where it came from; passwords are hidden"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "words",
        metavar="[show] [KEY]",
        nargs="*",
        help='a key or a table, such as "docker.port" or "docker"; default: all. "show" may stand before it',
    )
    parser.add_argument("--origin", action="store_true", help="show where each value came from")
    parser.add_argument(
        "--format",
        choices=["toml", "json", "env"],
        default="toml",
        help="default: %(default)s; env: what differs from the defaults as variables, ready for a shell",
    )
    parser.add_argument("--json", action="store_const", dest="format", const="json", help="the same as --format json")
    add_profile(parser)


@dataclass(frozen=True)
class Row:
    """One value: its path, the value with passwords hidden, and its origin."""

    path: tuple[str, ...]
    value: Any
    origin: str

    @property
    def name(self) -> str:
        return ".".join(self.path)


def run(arguments: argparse.Namespace) -> int:
    """Show the values; what is wrong goes to the standard error.

    Raises:
        ConfigurationError: There is no configuration.
    """
    from elefast.config.load import resolve
    from elefast.errors import ConfigurationError, full_text

    resolved = resolve(profile=arguments.profile)
    rows = list(_rows(resolved))
    key = _key(arguments.words)
    if key:
        selected = [row for row in rows if f"{row.name}.".startswith(f"{key}.")]
        if not selected:
            print(_no_such_key(rows, key), file=sys.stderr)
            return ConfigurationError.exit_status
        rows = selected
    if arguments.format == "env":
        print("\n".join(_as_variables(rows, arguments.origin)))
    elif arguments.format == "json":
        print(escape_controls(json.dumps(_as_json(rows, arguments.origin), indent=2, ensure_ascii=False, default=str)))
    elif len(rows) == 1 and rows[0].name == key:
        print(_line("", rows[0], arguments.origin))
    else:
        if arguments.origin and not key:
            print(_head(resolved))
        print(_as_toml(rows, arguments.origin))
    if resolved.problems:
        error = ConfigurationError(resolved.problems)
        print(full_text(error), file=sys.stderr)
        return error.exit_status
    return 0


def _rows(resolved: Resolved) -> Iterator[Row]:
    from elefast.config.keys import all_keys, named_tables
    from elefast.runtime.redaction import redact

    keys = [(key, key.path) for key in all_keys()]
    unnamed: list[Row] = []
    for table in named_tables():
        names = sorted(getattr(resolved.loaded.settings, table.name))
        keys += [(key, (table.name, name, key.path[-1])) for name in names for key in table.keys]
        unnamed += [] if names else [Row((table.name,), {}, "default")]
    for key, place in keys:
        if len(place) > 1:  # what stands at the top comes before all tables
            yield from unnamed
            unnamed = []
        paths = [path for path in resolved.values if path[: len(place)] == place]
        for path in paths or [place]:
            value = redact(path[-1], resolved.values.get(path, key.default))
            origin = resolved.loaded.provenance.get(".".join(path), "default")
            yield Row(path, value, str(origin))


def _key(words: list[str]) -> str:
    """The key that was asked for; empty for all.

    Raises:
        UsageError: More than one was.
    """
    from elefast.errors import UsageError

    rest = words[1:] if words[:1] == ["show"] else words
    if len(rest) > 1:
        raise UsageError(
            f"expected one key, got {' '.join(rest)}; a table shows all its keys: elefast config docker",
            code="several-keys",
        )
    return rest[0] if rest else ""


def _as_variables(rows: list[Row], origin: bool) -> Iterator[str]:
    """The written values as environment variables; a value that no variable can have becomes a comment."""
    import shlex

    from elefast.config.keys import variable
    from elefast.runtime.redaction import REDACTED

    for row in rows:
        if row.origin == "default":
            continue
        name = variable(row.path)
        comment = f"  # {row.origin}" if origin else ""
        if not _can_be_said(row.path):
            yield f"# {one_line(row.name)} has a name that no variable can say{comment}"
        elif REDACTED in str(row.value):
            yield f"# {name} has a password, which is not shown{comment}"
        elif row.value in ("", [], {}):
            yield f"# {name} is empty, which no variable can say{comment}"
        else:
            value = row.value if isinstance(row.value, str) else json.dumps(row.value, ensure_ascii=False, default=str)
            yield f"{name}={shlex.quote(value)}{comment}"


def _can_be_said(path: tuple[str, ...]) -> bool:
    """Whether there is a variable for it: variables have no small letters, and two underscores are a border."""
    return all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", part) for part in path)


def _no_such_key(rows: list[Row], name: str) -> str:
    from elefast.config.keys import closest
    from elefast.config.messages import suggestion

    known = {".".join(row.path[:end]) for row in rows for end in range(1, len(row.path) + 1)}
    return f'there is no key "{one_line(name)}"{suggestion(closest(name, sorted(known)))}'


def _as_json(rows: list[Row], origin: bool) -> dict[str, Any]:
    if origin:
        return {row.name: {"value": row.value, "origin": row.origin} for row in rows}
    nested: dict[str, Any] = {}
    for row in rows:
        table = nested
        for part in row.path[:-1]:
            table = table.setdefault(part, {})
        table[row.path[-1]] = row.value
    return nested


def _as_toml(rows: list[Row], origin: bool) -> str:
    from elefast.config.toml_writer import toml_key

    lines: list[str] = []
    table = ""
    for row in rows:
        if len(row.path) > 1 and row.path[0] != table:
            table = row.path[0]
            lines += ["", f"[{table}]"] if lines else [f"[{table}]"]
        name = ".".join(toml_key(part) for part in row.path[1 if table else 0 :])
        lines.append(_line(f"{name} = ", row, origin))
    return "\n".join(lines)


def _line(before: str, row: Row, origin: bool) -> str:
    from elefast.config.toml_writer import toml_value

    return f"{before}{toml_value(row.value)}" + (f"  # {row.origin}" if origin else "")


def _head(resolved: Resolved) -> str:
    from elefast.runtime.redaction import redact

    loaded = resolved.loaded
    files = ", ".join(file.name for file in loaded.files)
    lines = [f"# read {files} in {loaded.directory}"]
    if loaded.profile:
        lines.append(f"# profile {one_line(redact('profile', loaded.profile))}")
    lines.append(f"# migrator {loaded.migrator.migrator} ({loaded.migrator.reason})")
    return "\n".join([*lines, ""])

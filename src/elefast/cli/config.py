"""`elefast config`: every value that is in force, and where it came from.

It shows what it can of a configuration that is wrong as well: that is when people ask.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elefast.cli.output import add_profile

if TYPE_CHECKING:
    from elefast.config.load import Resolved

__all__ = ["HELP", "NAME", "add_arguments", "run"]


NAME = "config"
HELP = "show the configuration that is in force here, and where it came from; passwords are hidden"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("key", metavar="KEY", nargs="?", help='a key or a table, such as "docker.port" or "docker"')
    parser.add_argument("--origin", action="store_true", help="show where each value came from")
    parser.add_argument("--format", choices=["toml", "json"], default="toml", help="default: %(default)s")
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
    from elefast.errors import ConfigurationError, told

    resolved = resolve(profile=arguments.profile)
    rows = list(_rows(resolved))
    if arguments.key:
        selected = [row for row in rows if f"{row.name}.".startswith(f"{arguments.key}.")]
        if not selected:
            print(_no_such_key(rows, arguments.key), file=sys.stderr)
            return ConfigurationError.exit_status
        rows = selected
    if arguments.format == "json":
        print(json.dumps(_as_json(rows, arguments.origin), indent=2, ensure_ascii=False, default=str))
    elif len(rows) == 1 and rows[0].name == arguments.key:
        print(_line("", rows[0], arguments.origin))
    else:
        if arguments.origin and not arguments.key:
            print(_head(resolved))
        print(_as_toml(rows, arguments.origin))
    if resolved.problems:
        error = ConfigurationError(resolved.problems)
        print(told(error), file=sys.stderr)
        return error.exit_status
    return 0


def _rows(resolved: Resolved) -> Iterator[Row]:
    from elefast.config.keys import all_keys
    from elefast.config.secrets import hide

    for key in all_keys():
        paths = [path for path in resolved.values if path[: len(key.path)] == key.path]
        for path in paths or [key.path]:
            value = hide(path[-1], resolved.values.get(path, key.default))
            origin = resolved.loaded.provenance.get(".".join(path), "default")
            yield Row(path, value, str(origin))


def _no_such_key(rows: list[Row], name: str) -> str:
    from elefast.config.keys import closest
    from elefast.config.wording import suggestion

    known = {".".join(row.path[:end]) for row in rows for end in range(1, len(row.path) + 1)}
    return f'there is no key "{name}"{suggestion(closest(name, sorted(known)))}'


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
    from elefast.config.writing import toml_key

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
    from elefast.config.writing import toml_value

    return f"{before}{toml_value(row.value)}" + (f"  # {row.origin}" if origin else "")


def _head(resolved: Resolved) -> str:
    loaded = resolved.loaded
    files = ", ".join(file.name for file in loaded.files)
    lines = [f"# read {files} in {loaded.directory}"]
    if loaded.profile:
        lines.append(f"# profile {loaded.profile}")
    lines.append(f"# migrator {loaded.migrator.migrator} ({loaded.migrator.reason})")
    return "\n".join([*lines, ""])

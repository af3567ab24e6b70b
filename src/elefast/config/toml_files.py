"""The TOML files and their profiles as layers.

The keys are at the top of `elefast.toml`, and in the table `[tool.elefast]` of `pyproject.toml`.
This module must not know which file wins. A problem in a file is a finding, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elefast.config.layers import Finding, Layer
from elefast.config.messages import wrong_value
from elefast.config.provenance import Origin
from elefast.config.toml_positions import line_of, lines
from elefast.config.toml_reader import TooDeepError, read_toml
from elefast.runtime.text import one_line
from elefast.runtime.type_guards import is_table

__all__ = ["TomlFile", "read_file"]

PROFILES = "profiles"
_LONGEST_REASON = 200
_NUMBER = re.compile(r"[0-9][0-9_]{4000}")
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass
class TomlFile:
    """One file, read.

    Args:
        path: The file.
        layer: Its values outside of profiles.
        profiles: The values of each profile.
        findings: The problems of the file as a whole, and of keys, in any profile.
        broken: Whether the file could not be read at all.
    """

    path: Path
    layer: Layer
    profiles: dict[str, Layer] = field(default_factory=dict[str, Layer])
    findings: list[Finding] = field(default_factory=list[Finding])
    broken: bool = False


def read_file(path: Path, root: tuple[str, ...]) -> TomlFile:
    """Read one file.

    Args:
        path: The file.
        root: The table that has the keys: `("tool", "elefast")`, or nothing for the top.
    """
    file = TomlFile(path, Layer(lambda _: Origin("file", path.name), path.parent))
    text = ""
    try:
        document = read_toml(path)
        text = document.content.decode().replace("\r\n", "\n")
        table: Any = document.table()
    except (OSError, ValueError) as error:
        file.findings.append(_unreadable(path.name, text, error))
        file.broken = True
        return file

    places = lines(text)
    for part in root:
        table = table.get(part, {}) if is_table(table) else table
    if not is_table(table):
        origin = Origin("file", path.name, line_of(places, root))
        message = wrong_value("a table", root[-1], table)
        file.findings.append(Finding(origin, ".".join(root), message, code="wrong-value"))
        return file

    def layer_at(prefix: tuple[str, ...]) -> Layer:
        def where(inner: tuple[str | int, ...]) -> Origin:
            return Origin("file", path.name, line_of(places, (*root, *prefix, *inner)))

        return Layer(where, path.parent, shown_as=prefix)

    file.layer = layer_at(())
    content = deepcopy(table)  # lists of it reach the settings, whose users may change them
    profiles = content.pop(PROFILES, {})
    if not root and "tool" in content:
        del content["tool"]
        file.layer.wrong(("tool",), "the keys of this file stand at its top, without [tool.elefast]", "unknown-key")
    file.layer.add(content)
    file.findings += file.layer.findings
    for name, profile in _tables(profiles, file, layer_at(())).items():
        file.profiles[name] = layer_at((PROFILES, name))
        file.profiles[name].add(profile)
        file.findings += file.profiles[name].findings
    return file


def _tables(profiles: Any, file: TomlFile, layer: Layer) -> dict[str, Mapping[str, Any]]:
    """The profiles that are tables; the others are findings."""
    good: dict[str, Mapping[str, Any]] = {}
    if not is_table(profiles):
        layer.wrong((PROFILES,), wrong_value("a table", PROFILES, profiles))
        profiles = {}
    for name, profile in profiles.items():
        if not name:
            layer.wrong((PROFILES, name), "a profile needs a name")
        elif is_table(profile):
            good[name] = profile
        else:
            layer.wrong((PROFILES, name), wrong_value("a table", name, profile))
    file.findings += layer.findings
    return good


def _unreadable(name: str, text: str, error: OSError | ValueError) -> Finding:
    if isinstance(error, OSError):
        return Finding(Origin("file", name), "", f"cannot be read: {error.strerror or error}", code="file-unreadable")
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return Finding(Origin("file", name, line), "", "cannot be read: it is not UTF-8 text", code="file-unreadable")
    line, column, reason = _where_and_why(text, error)
    message = f"not valid TOML: {one_line(reason, _LONGEST_REASON)}{column}"
    return Finding(Origin("file", name, line), "", message, code="invalid-toml")


def _where_and_why(text: str, error: ValueError) -> tuple[int, str, str]:
    """The line at which the parser stopped, the column for the end of the message, and the parser's reason."""
    if text.startswith("\ufeff"):
        return 1, "", "it begins with a byte order mark, save it as UTF-8 without one"
    if isinstance(error, TooDeepError):
        return 0, "", str(error)
    # Python has the line at the end of its message; elefast's errors begin with it.
    position = _POSITION.search(str(error))
    if position is None and (number := _NUMBER.search(text)):
        # Python's limit for the digits of integers has a message without a line.
        return text.count("\n", 0, number.start()) + 1, "", "an integer has more digits than 64 bits can hold"
    line = int(position[1]) if position and position[1] else text.rstrip("\n").count("\n") + 1
    column = f" (column {position[2]})" if position and position[2] else ""
    return line, column, _POSITION.sub("", str(error))

"""One layer of configuration: the values of one source by path, with the place of each.

Arguments, variables, files and profiles all become layers. A layer checks its keys against the model, so that an
unknown key is reported in the same words wherever it was written.
This module must not know how a source is read, or which layer wins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from elefast.config.keys import Key, KeyPath, all_keys, all_tables, closest, dotted, key_at, named_tables
from elefast.config.limits import MAX_DEPTH, broken_limit, broken_path_limit
from elefast.config.messages import suggestion, wrong_value
from elefast.config.provenance import DEFAULT, Origin
from elefast.config.value_types import FilePath, is_target
from elefast.runtime.type_guards import is_list, is_table

__all__ = ["Finding", "Layer", "places_from"]

Where = Callable[[tuple[str | int, ...]], Origin]


def places_from(origins: Mapping[KeyPath, Origin]) -> Where:
    """Make the function `Layer.where` for a layer that is not a file.

    Args:
        origins: Where a key, or a whole table, was given. Later additions count as well.
    """

    def where(path: tuple[str | int, ...]) -> Origin:
        for end in range(len(path), 0, -1):
            around = origins.get(cast("KeyPath", path[:end]))  # the number of a list's item is in none
            if around is not None:
                return around
        return next((origin for known, origin in origins.items() if known[: len(path)] == path), DEFAULT)

    return where


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, before it becomes a line of an error: its place, the dotted key, the message and its code."""

    origin: Origin
    key: str
    message: str
    code: str


@dataclass
class Layer:
    """The values of one source.

    Args:
        where: Gives the place of a path in this layer.
        directory: The directory that relative paths of this layer start from.
        shown_as: The path that precedes keys in errors, such as `profiles.ci`.
        values: The values by path. A table of the model is not a value. In an open table, whose keys are the
            user's, each innermost value has a path.
        tables: The tables that were written, also empty ones.
        named: The tables with a name of the project's choice that were written, also empty ones.
        inner: The tables inside open tables.
        findings: The problems with keys.
        refused: The paths of these problems.
    """

    where: Where
    directory: Path
    shown_as: KeyPath = ()
    values: dict[KeyPath, Any] = field(default_factory=dict[KeyPath, Any])
    tables: set[str] = field(default_factory=set[str])
    named: set[KeyPath] = field(default_factory=set[KeyPath])
    inner: set[KeyPath] = field(default_factory=set[KeyPath])
    findings: list[Finding] = field(default_factory=list[Finding])
    refused: set[KeyPath] = field(default_factory=set[KeyPath])

    def add(self, data: Mapping[str, Any], path: KeyPath = ()) -> None:
        """Add the values of a nested mapping.

        Args:
            data: The mapping.
            path: Its place: the top, or a table of the model.
        """
        known = _names_in(path)
        for name, value in data.items():
            here = (*path, name)
            if len(path) == 1 and path[0] in _named_table_names():
                self._add_named(here, value)
            elif name not in known:
                self._unknown(here, known)
            elif len(here) == 1 and name in (*_table_names(), *_named_table_names()):
                self._add_table(here, value)
            else:
                self._add_value(here, value)

    def wrong(self, path: KeyPath, message: str, code: str = "wrong-value") -> None:
        """Record a problem with the key at `path`."""
        self.refused.add(path)
        self.findings.append(Finding(self.where(path), dotted((*self.shown_as, *path)), message, code=code))

    def _add_table(self, path: KeyPath, value: Any) -> None:
        if is_table(value):
            self.tables.add(path[0])
            self.add(value, path)
        else:
            self.wrong(path, wrong_value("a table", path[-1], value))

    def _add_named(self, path: KeyPath, value: Any) -> None:
        if expected := broken_limit(path):
            self.wrong(path, wrong_value(expected, path[-1], value))
        elif is_table(value):
            self.named.add(path)
            self.add(value, path)
        else:
            self.wrong(path, wrong_value("a table", path[-1], value))

    def _add_value(self, path: KeyPath, value: Any) -> None:
        name = path[-1]
        key = key_at(path)
        assert key is not None
        if len(path) > 1:
            self.tables.add(path[0])
        if key.is_open and is_table(value):
            self.add_open(path, value)
        elif key.is_open:
            self.wrong(path, wrong_value("a table", name, value))
        elif expected := broken_limit(value):
            self.wrong(path, wrong_value(expected, name, value))
        else:
            absolute = _absolute(key, value, self.directory)
            if key.file and (expected := broken_path_limit(absolute)):
                self.wrong(path, wrong_value(expected, name, value))
            else:
                self.values[path] = absolute

    def add_open(self, path: KeyPath, value: Any) -> None:
        """Add the user's own keys one by one, because tables merge key by key at any depth."""
        if is_table(value) and len(path) < MAX_DEPTH:
            for name, inner in value.items():
                self.add_open((*path, name), inner)
            return
        if expected := broken_limit(path) or broken_limit(value, depth=len(path)):
            self.wrong(path, wrong_value(expected, path[-1], value))
            return
        around = [path[:end] for end in range(1, len(path))]
        if path in self.inner or any(table in self.values for table in around):
            self.wrong(path, "is a value here and a table elsewhere, choose one", "conflicting-keys")
            return
        self.inner.update(around)
        self.values[path] = value

    def _unknown(self, path: KeyPath, known: list[str]) -> None:
        # The one name at the top that no profile and no table may have; "roles" would look similar.
        similar = [] if path[-1] == "profiles" else known
        better = closest(path[-1], known, exact=True) or _elsewhere(path) or closest(path[-1], similar)
        self.wrong(path, f"unknown key{suggestion(better)}", "unknown-key")


def _table_names() -> list[str]:
    return [table.name for table in all_tables() if table.name]


def _named_table_names() -> list[str]:
    return [table.name for table in named_tables()]


def _names_in(path: KeyPath) -> list[str]:
    """The names that may stand in the table at `path`."""
    if len(path) == 2:
        return [key.path[-1] for table in named_tables() if table.name == path[0] for key in table.keys]
    names = [key.path[len(path)] for key in all_keys() if key.path[:-1] == path]
    return names if path else names + _table_names() + _named_table_names()


def _elsewhere(path: KeyPath) -> str:
    """The one key of another table that has this name."""
    name = path[-1].replace("-", "_")
    same = [key.name for key in all_keys() if name in key.path[1:]]
    return same[0] if len(same) == 1 else ""


def _absolute(key: Key, value: Any, directory: Path) -> Any:
    """The value with its relative paths and globs made absolute; a value that is no path stays as it is."""
    if key.file is None:
        return value
    if list in key.types:
        return [_path(key.file, item, directory) for item in value] if is_list(value) else value
    return _path(key.file, value, directory)


def _path(file: FilePath, value: Any, directory: Path) -> Any:
    if not isinstance(value, str) or not value.strip() or (file.or_target and is_target(value)):
        return value
    return os.path.normpath(directory / os.path.expanduser(value))

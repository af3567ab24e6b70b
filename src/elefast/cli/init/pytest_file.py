"""Pytest's configuration, found by pytest's own rules, and the directories that it lets tests import from."""

from __future__ import annotations

import configparser
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elefast.config.toml_reader import read_toml

__all__ = ["PytestFile", "find_pytest_file", "relative", "with_line"]

_NAMES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""In pytest's order; the first four count even if they are empty."""


@dataclass(frozen=True)
class PytestFile:
    """The configuration that pytest reads when it is started in a project.

    Args:
        rootdir: The directory that pytest takes for the project's.
        file: The configuration; None without one.
        section: The header of the section or table that has pytest's options, without brackets; empty without one.
        options: Its options. Lists of an ini file are still strings.
    """

    rootdir: Path
    file: Path | None
    section: str
    options: dict[str, Any]

    def words(self, name: str) -> list[str]:
        """An option that is a list."""
        value = self.options.get(name, [])
        return value.split() if isinstance(value, str) else [str(one) for one in value]

    @property
    def pythonpath(self) -> list[Path]:
        """The directories that tests can import from, as far as they are written down."""
        return [(self.rootdir / path).resolve() for path in self.words("pythonpath")]

    def line(self, directories: list[str]) -> str:
        """The line that adds these to the path."""
        is_toml = self.file is None or self.file.suffix == ".toml"
        return f"pythonpath = {json.dumps(directories) if is_toml else ' '.join(directories)}"


def find_pytest_file(start: Path) -> PytestFile:
    """Find the configuration of a pytest that is started in `start` without arguments."""
    first: Path | None = None
    for directory in [start, *start.parents]:
        for name in _NAMES:
            file = directory / name
            if not file.is_file():
                continue
            if name == "pyproject.toml" and first is None:
                first = directory
            found = _read(file)
            if found is not None:
                return PytestFile(directory, file, *found)
    # Without a configuration it is where the first pyproject.toml or setup.py is.
    setup = next((one for one in [start, *start.parents] if (one / "setup.py").is_file()), None)
    return PytestFile(first or setup or start, None, "", {})


def _read(file: Path) -> tuple[str, dict[str, Any]] | None:
    """The section and its options; None if pytest does not take the file for its configuration."""
    if file.suffix == ".toml":
        try:
            document = read_toml(file).table()
        except (OSError, ValueError):
            return None
        if file.name != "pyproject.toml":
            return "pytest", _table(document.get("pytest"))
        tool = _table(document.get("tool"))
        if "pytest" not in tool:
            return None
        table = _table(tool["pytest"])
        inner = _table(table.get("ini_options"))
        return ("tool.pytest.ini_options", inner) if "ini_options" in table else ("tool.pytest", table)
    section = "tool:pytest" if file.name == "setup.cfg" else "pytest"
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None
    if parser.has_section(section):
        return section, dict(parser.items(section))
    return ("", {}) if file.name in ("pytest.ini", ".pytest.ini") else None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def with_line(text: str, section: str, line: str) -> str | None:
    """`text` with `line` as the first of its section; None where the section has no header.

    Args:
        text: The file.
        section: The header without brackets.
        line: What to add.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    for number, one in enumerate(lines):
        if one.partition("#")[0].strip().replace(" ", "") == f"[{section}]":
            if not one.endswith(("\n", "\r")):
                lines[number] += newline
            lines.insert(number + 1, line + newline)
            return "".join(lines)
    return None


def relative(path: Path, start: Path) -> str:
    """`path` as it is written in a configuration of `start`."""
    return Path(os.path.relpath(path, start)).as_posix()

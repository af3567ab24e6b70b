"""Where the configuration of a project lies.

The pytest plugin calls this at every start, also where elefast is not used. So it imports the standard library only,
and it parses a `pyproject.toml` only if the word "elefast" is in it.
This module must not know keys, models or errors: `toml_files` reports what is wrong with a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from elefast.config.toml_reader import read_toml

__all__ = [
    "ALEMBIC_INI",
    "OVERLAY",
    "PYPROJECT",
    "FoundFiles",
    "alembic_below",
    "directories",
    "find",
    "has_table",
    "in_directory",
]

OVERLAY = "elefast.toml"
PYPROJECT = "pyproject.toml"
ALEMBIC_INI = "alembic.ini"


class FoundFiles(NamedTuple):
    """The files of one project's configuration. At least one of them exists, except for `from_config(key=...)`.

    Args:
        directory: The directory with the files.
        overlay: The `elefast.toml`, if there is one.
        pyproject: The `pyproject.toml`, if it has the table.
    """

    directory: Path
    overlay: Path | None
    pyproject: Path | None


def find(start: Path) -> FoundFiles | None:
    """Find the nearest directory with an `elefast.toml`, or with a `pyproject.toml` that has the table.

    Args:
        start: The directory to begin with, or a file in it. The search goes upwards. `start` need not exist.
    """
    for directory in directories(start):
        found = in_directory(directory)
        if found is not None:
            return found
    return None


def directories(start: Path) -> list[Path]:
    """The directories that `find()` looks at, the nearest first."""
    start = Path(os.path.abspath(start))
    return [start, *start.parents] if not start.is_file() else list(start.parents)


def in_directory(directory: Path) -> FoundFiles | None:
    """The files of this one directory; None if it has none."""
    overlay = directory / OVERLAY
    pyproject = directory / PYPROJECT
    # lexists: a dangling link was meant to be a configuration, so reading it must be an error.
    has_overlay = os.path.lexists(overlay) and not overlay.is_dir()
    has_pyproject = has_table(pyproject)
    if not has_overlay and not has_pyproject:
        return None
    return FoundFiles(directory, overlay if has_overlay else None, pyproject if has_pyproject else None)


def has_table(pyproject: Path) -> bool:
    """Whether this file has `[tool.elefast]`. A file that is not valid TOML counts if the header seems to be in it."""
    try:
        document = read_toml(pyproject)
    except OSError:
        return False
    if b"elefast" not in document.content:
        return False
    try:
        tool = document.table().get("tool")
    except ValueError:  # TOMLDecodeError and UnicodeDecodeError
        import re

        # The mistake may be anywhere, also in the header itself. A dependency on elefast is no configuration.
        header = rb"""["']?tool["']?[ \t]*\.[ \t]*["']?elefast\b|\[[ \t]*tool[ \t]*\][^\[]*\n[ \t]*["']?elefast\b"""
        return re.search(header, document.content) is not None
    return isinstance(tool, dict) and "elefast" in tool


def alembic_below(directory: Path) -> str:
    """The ``alembic.ini`` in a directory directly below `directory` that is meant to be used from `directory`.

    Its ``script_location`` leads to an env.py from there, and not from its own directory. Empty where there is none,
    or more than one.
    """
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError:
        return ""
    inis = [name for name in names if os.path.isfile(directory / name / ALEMBIC_INI)]
    found = [f"{name}/{ALEMBIC_INI}" for name in inis if _is_for(directory, directory / name / ALEMBIC_INI)]
    return found[0] if len(found) == 1 else ""


def _is_for(directory: Path, ini: Path) -> bool:
    """Whether `ini` names a directory with an env.py as seen from `directory`, and not from its own."""
    import configparser

    parser = configparser.ConfigParser({"here": ini.parent.as_posix()})
    try:
        parser.read(ini, encoding="utf-8")
        location = parser.get("alembic", "script_location")
    except (configparser.Error, OSError, ValueError):
        return False
    found = [(place / location / "env.py").is_file() for place in (directory, ini.parent)]
    return found == [True, False]

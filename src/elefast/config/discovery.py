"""Where the configuration of a project lies.

The pytest plugin asks this on every start, also where elefast is not used: only the standard library,
and a `pyproject.toml` is parsed only if it contains the word at all.
It must not know keys, models or errors; what is wrong with a file is said by whoever reads it.
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
    "Found",
    "alembic_below",
    "directories",
    "find",
    "has_table",
    "in_directory",
]

OVERLAY = "elefast.toml"
PYPROJECT = "pyproject.toml"
ALEMBIC_INI = "alembic.ini"


class Found(NamedTuple):
    """The files of one project's configuration; at least one of them is there.

    Args:
        directory: Where they lie.
        overlay: The `elefast.toml`, if there is one.
        pyproject: The `pyproject.toml`, if it has the table.
    """

    directory: Path
    overlay: Path | None
    pyproject: Path | None


def find(start: Path) -> Found | None:
    """What the nearest directory has that has an `elefast.toml`, or a `pyproject.toml` with the table.

    Args:
        start: The directory to begin with, or a file in it; the search goes upwards. It need not exist.
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


def in_directory(directory: Path) -> Found | None:
    """What this one directory has, or None."""
    overlay = directory / OVERLAY
    pyproject = directory / PYPROJECT
    # lexists: a dangling link was meant to be a configuration, and deserves an error instead of silence.
    has_overlay = os.path.lexists(overlay) and not overlay.is_dir()
    has_pyproject = has_table(pyproject)
    if not has_overlay and not has_pyproject:
        return None
    return Found(directory, overlay if has_overlay else None, pyproject if has_pyproject else None)


def has_table(pyproject: Path) -> bool:
    """Whether this file has `[tool.elefast]`; a broken one counts if it seems to."""
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

        # What is broken may be anywhere, also in the header itself; a dependency on elefast is no configuration.
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

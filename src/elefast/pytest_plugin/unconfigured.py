"""The advice where a test requests a fixture of elefast, and pytest's rootdir has no configuration.

It is imported only after such a test failed. It knows files and reports. It must not import pydantic or SQLAlchemy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from elefast.config.discovery import FoundFiles, find, in_directory

__all__ = ["explain", "find_nearby"]

_MISSING = re.compile(r"fixture '((?:async_)?db(?:_server|_connection|_session)?|elefast_(?:db|stack))' not found")
_DEPTH = 2
_REPOSITORY_MARKERS = (".git", ".hg", ".jj", ".svn")
_SKIPPED_DIRECTORIES = frozenset(["node_modules", "site-packages", "venv", "build", "dist", "__pycache__"])
_MAX_DIRECTORIES = 2000
"""The number of directories to search at most, because a repository may have very many."""


def explain(terminal: pytest.TerminalReporter, errors: Sequence[Any]) -> None:
    """Write where a configuration was found, or how to make one.

    Args:
        terminal: The terminal reporter of the run.
        errors: The reports of tests whose setup failed.
    """
    missing: dict[str, Path] = {}
    root = terminal.config.rootpath
    for report in errors:
        if match := _MISSING.search(getattr(report, "longreprtext", "")):
            missing.setdefault(match[1], root / str(report.nodeid).partition("::")[0])
    if not missing:
        return
    found = next((it for it in map(find, missing.values()) if it is not None), None) or find_nearby(root)
    fixtures = ", ".join(missing)
    terminal.section("elefast", "-")
    if found is None:
        terminal.line(
            f"{fixtures}: there is no configuration of elefast in {root} or above it, so there are no fixtures."
        )
        terminal.line('Run "elefast init" there, or write a table [tool.elefast] in its pyproject.toml.')
        return
    file = found.pyproject or found.overlay
    terminal.line(f"{fixtures}: a configuration of elefast was found in {file}, but pytest's rootdir is {root}.")
    terminal.line("elefast reads the configuration of the rootdir, or the nearest one above it.")
    terminal.line(f"Run pytest in {found.directory}, or with --rootdir={found.directory}, or move the configuration.")


def find_nearby(root: Path) -> FoundFiles | None:
    """The first configuration below `root`, or in a directory beside it that belongs to the same repository."""
    for number, directory in enumerate(_nearby_directories(root)):
        if number > _MAX_DIRECTORIES:
            return None
        if (found := in_directory(directory)) is not None:
            return found
    return None


def _nearby_directories(root: Path) -> Iterator[Path]:
    level = [root]
    for _ in range(_DEPTH):
        level = [inner for directory in level for inner in _subdirectories(directory)]
        yield from level
    # Outside of a repository, directories with the same parent may be unrelated projects.
    if any((above / name).exists() for above in root.parents for name in _REPOSITORY_MARKERS):
        yield from (beside for beside in _subdirectories(root.parent) if beside != root)


def _subdirectories(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            names = [it.name for it in entries if it.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [directory / name for name in sorted(names) if not name.startswith(".") and name not in _SKIPPED_DIRECTORIES]

"""Files, globs and environment variables that a project names, as inputs of the template's key.

It knows paths and bytes. It must not know the formats of the files.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from elefast.errors import ConfigurationError, Problem
from elefast.runtime.hashing import digest
from elefast.runtime.text import one_line
from elefast.templates import file_digests
from elefast.templates.fingerprint import Input
from elefast.templates.manifest import relative

__all__ = ["expand", "file_input", "watched", "watched_variables"]

_LONGEST = 250


def expand(root: Path, patterns: Iterable[str], key: str) -> list[Path]:
    """The files that `patterns` name, in the order of the patterns, each file once, those of a glob sorted.

    Args:
        root: Where relative patterns start.
        patterns: Paths and globs; ``**`` matches subdirectories.
        key: The configuration key that has the patterns, for errors.

    Raises:
        ConfigurationError: A file does not exist, or a glob matches nothing.
    """
    found: dict[Path, None] = {}
    problems: list[Problem] = []
    for pattern in patterns:
        matches = _matches(root, pattern)
        if not matches:
            problems.append(Problem("", key, _nothing(root, pattern), code="file-missing"))
        found.update(dict.fromkeys(matches))
    if problems:
        raise ConfigurationError(problems)
    return list(found)


def watched(root: Path, patterns: Sequence[str]) -> list[Input]:
    """The inputs of ``template.watch``.

    Args:
        root: The project directory.
        patterns: Paths and globs; a directory stands for all files in it.

    Raises:
        ConfigurationError: A pattern matches nothing.
    """
    patterns = [f"{pattern}/**" if (root / pattern).is_dir() else pattern for pattern in patterns]
    return [file_input(path, root) for path in expand(root, patterns, "template.watch")]


def watched_variables(names: Iterable[str]) -> list[Input]:
    """The inputs of ``template.variables``; a variable that is not set differs from an empty one."""
    found: list[Input] = []
    for name in names:
        value = os.environ.get(name)
        content = () if value is None else (name, value.encode(errors="surrogateescape"))
        found.append(Input.of(f"variable {name}", *content))
    return found


def file_input(path: str | Path, root: Path) -> Input:
    """A file's content as an input, labelled with its path relative to `root`.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    name = str(path)
    found = file_digests.of(name)
    if found == file_digests.ABSENT:
        try:
            found = digest(Path(name).read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code="file-unreadable") from error
    return Input(relative(name, str(root)), found)


def _matches(root: Path, pattern: str) -> list[Path]:
    path = root / pattern
    if os.path.isfile(path):
        return [path]
    if not glob.has_magic(pattern):
        return []
    names = glob.glob(pattern, root_dir=root, recursive=True)
    return [root / name for name in sorted(names) if os.path.isfile(root / name) and "__pycache__" not in name]


def _nothing(root: Path, pattern: str) -> str:
    where = "" if os.path.isabs(pattern) else f" in {root}"
    shown = one_line(pattern, _LONGEST)
    if glob.has_magic(pattern):
        return f'no file matches "{shown}"{where}'
    return f'there is no file "{shown}"{where}'

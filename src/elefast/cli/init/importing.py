"""Lets tests import the project: which directory pytest has to put on the path, and which file gets that line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elefast.cli.init import write_files
from elefast.cli.init.project import Project
from elefast.cli.init.proposal import Proposal
from elefast.cli.init.pytest_file import with_line

__all__ = ["Importing", "find_importing", "write_importing"]


@dataclass(frozen=True)
class Importing:
    """A change to pytest's configuration.

    Args:
        module: A module that tests cannot import; empty if they can import all.
        directories: The directories that pytest has to put on the path.
        file: The file to change; None if the user has to do it.
        text: The text to add to it.
        note: The reason for the user, and without a file also the line to write.
    """

    module: str
    directories: tuple[str, ...]
    file: Path | None
    text: str
    note: str


def find_importing(project: Project, proposal: Proposal) -> Importing:
    """Whether tests can import the modules that the configuration names."""
    patched = [str(target) for line in proposal.lines if line.key == "patch" for target in line.value]
    modules = [target.partition(":")[0] for target in [*project.sources.declared.targets, *patched]]
    missing = {module: path for module in modules if (path := project.missing_path(module))}
    if not missing:
        return Importing("", (), None, "", "")
    module = next(iter(missing))
    directories = tuple(dict.fromkeys(missing.values()))
    where = project.pytest
    line = where.line(list(directories))
    other = " (or: pip install -e .)" if "src" in directories and "project" in project.document else ""
    why = f"tests cannot import {module}: pytest does not look in {', '.join(directories)}"
    if where.file is None:
        if project.pyproject is not None and where.rootdir == project.root:
            text = f"[tool.pytest.ini_options]\n{line}\n"
            return Importing(module, directories, project.root / "pyproject.toml", text, f"{why}{other}")
        file = project.root / "pytest.ini"
        if where.rootdir == project.root and not file.exists():
            text = f"[pytest]\npythonpath = {' '.join(directories)}\n"
            return Importing(module, directories, file, text, f"{why}{other}")
    elif where.file.parent == project.root and where.section and "pythonpath" not in where.options:
        return Importing(module, directories, where.file, f"{line}\n", f"{why}{other}")
    place = f"[{where.section}] of {where.file}" if where.file else f"pytest's configuration in {where.rootdir}"
    return Importing(module, directories, None, "", f"{why}; write `{line}` into {place}{other}")


def write_importing(found: Importing, section: str) -> bool:
    """Write it; False where the file has no place for it.

    Raises:
        ConfigurationError: The file cannot be written.
    """
    assert found.file is not None
    if not found.file.exists():
        return write_files.create(found.file, found.text)
    before = found.file.read_bytes().decode("utf-8")
    if found.text.startswith("["):
        write_files.append(found.file, before, found.text)
        return True
    after = with_line(before, section, found.text.rstrip("\n"))
    if after is None:
        return False
    write_files.replace(found.file, before, after)
    return True

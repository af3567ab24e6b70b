"""What `migrator = "auto"` means: the table that was written, else Alembic beside the file or below it, else none.

This module must not know how a migrator works.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from elefast.config.discovery import ALEMBIC_INI, PYPROJECT, alembic_below
from elefast.config.loaded import Migrator, Selection
from elefast.config.model import Settings
from elefast.config.toml_reader import read_toml

__all__ = ["ESSENTIAL", "Migrator", "Selection", "alembic_file", "migrator_tables", "select_migrator"]

ESSENTIAL: dict[Migrator, str] = {
    "metadata": "target",
    "alembic": "config",
    "sql": "files",
    "callable": "target",
    "command": "run",
}
"""The key of each migrator's table without which it cannot work."""


def migrator_tables(settings: Settings, written: Container[object]) -> list[Migrator]:
    """The migrators that the project may have meant with "auto", by the tables that it wrote.

    A table without its essential value only counts where no table has one.
    """
    kinds: list[Migrator] = [kind for kind in ESSENTIAL if kind in written]
    filled: list[Migrator] = [kind for kind in kinds if getattr(getattr(settings, kind), ESSENTIAL[kind])]
    return filled or kinds


def select_migrator(settings: Settings, written: Container[object], directory: Path) -> Selection:
    """The migrator in force.

    Args:
        settings: The settings; with "auto", they are valid only if they mean one migrator.
        written: The names of the tables that the project wrote.
        directory: Where the configuration lies.
    """
    if settings.migrator != "auto":
        return Selection(settings.migrator, f'migrator = "{settings.migrator}"')
    for kind in migrator_tables(settings, written):
        return Selection(kind, f"auto: the table {kind} is written")
    if file := alembic_file(directory):
        place = "[tool.alembic]" if file == PYPROJECT else file
        where = "below" if "/" in file else "beside"
        return Selection("alembic", f"auto: {place} {where} the configuration")
    return Selection("none", "auto: no table of a migrator is written, and Alembic is not configured")


def alembic_file(directory: Path) -> str:
    """The file that configures Alembic for the project in `directory`, relative to that, or an empty string.

    It lies in the directory, or in one directly below, if its ``script_location`` is relative to `directory`: such a
    project calls ``alembic -c conf/alembic.ini``. Of several of those none is taken.
    """
    if (directory / ALEMBIC_INI).is_file():
        return ALEMBIC_INI
    return PYPROJECT if _has_alembic_table(directory / PYPROJECT) else alembic_below(directory)


def _has_alembic_table(pyproject: Path) -> bool:
    try:
        document = read_toml(pyproject)
        tool = document.table().get("tool") if b"alembic" in document.content else None
    except (OSError, ValueError):
        return False
    return isinstance(tool, dict) and "alembic" in tool

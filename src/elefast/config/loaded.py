"""The result of `load_settings()`: plain data, which costs nothing to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from elefast.config.provenance import Origin

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["Loaded", "Migrator", "Selection"]

Migrator = Literal["none", "metadata", "alembic", "sql", "callable", "command"]


@dataclass(frozen=True, slots=True)
class Selection:
    """The migrator in force.

    Args:
        migrator: Its kind; never "auto".
        reason: Why it is in force, for reports: `auto: alembic.ini beside the configuration`.
    """

    migrator: Migrator
    reason: str


@dataclass(frozen=True)
class Loaded:
    """A configuration, resolved and valid.

    Args:
        settings: The values; paths in them are absolute.
        provenance: The place of each value, by dotted key. The place of a key that was not set is `default`.
        files: The files that were read.
        directory: The directory that relative paths start from.
        project: The directory of the configuration; the same one.
        migrator: The migrator in force, which `settings.migrator` may leave to "auto".
        profile: The profile in force, or an empty string.
    """

    settings: Settings
    provenance: Mapping[str, Origin]
    files: tuple[Path, ...]
    directory: Path
    project: Path
    migrator: Selection
    profile: str

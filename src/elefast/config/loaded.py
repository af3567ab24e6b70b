"""What `load_settings()` returns: plain data, which costs nothing to import."""

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
        reason: Why, for reports: `migrator = "alembic"`, `auto: alembic.ini beside the configuration`.
    """

    migrator: Migrator
    reason: str


@dataclass(frozen=True)
class Loaded:
    """A configuration, resolved and valid.

    Args:
        settings: The values; paths in them are absolute.
        provenance: Where each value came from, by dotted key; keys that nobody set are there as `default`.
        files: The files that were read.
        directory: What relative paths are relative to.
        project: Where the configuration was found; the same directory.
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

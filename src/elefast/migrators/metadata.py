"""``migrator = "metadata"``: tables of a ``MetaData`` of the project, named in the configuration.

`elefast.templates.metadata` creates and describes them; this module imports the objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool

from elefast.errors import ConfigurationError, Problem
from elefast.migrators.import_target import load, project_on_path
from elefast.migrators.steps import BuildTarget
from elefast.postgres.urls import with_driver
from elefast.templates import metadata as schema_of
from elefast.templates.fingerprint import Input

__all__ = ["Metadata", "load_metadata"]

_KEY = "metadata.target"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata objects of the project, by name.

    Args:
        targets: Names as ``package.module:attribute``, each of a ``MetaData``, or of a class or registry with one.
    """

    targets: tuple[str, ...]
    runs_project_code: ClassVar[bool] = False  # this process imports the target anyway, for the key

    @property
    def label(self) -> str:
        return f"metadata of {', '.join(self.targets)}"

    def inputs(self, root: Path) -> Sequence[Input]:
        return self.describe(root)[0]

    def declared(self, root: Path) -> Sequence[Path]:
        return ()

    def why_not_kept(self, root: Path) -> str:
        return self.describe(root)[1]

    def describe(self, root: Path) -> tuple[Sequence[Input], str]:
        found: list[Input] = []
        opaque = ""
        for metadata in load_metadata(self.targets, root):
            known, unknown = schema_of.describe(metadata)
            found += known
            opaque = opaque or unknown
        return found, opaque

    def run(self, target: BuildTarget) -> None:
        engine = create_engine(with_driver(target.url, "postgresql+psycopg"), poolclass=NullPool)
        with project_on_path(target.root), engine.begin() as connection:
            for metadata in load_metadata(self.targets, target.root):
                schema_of.create_all(connection, metadata)


def load_metadata(targets: Sequence[str], root: Path) -> list[MetaData]:
    """Import the metadata objects that `targets` name, each once.

    Raises:
        ConfigurationError: A target cannot be imported, is no metadata, or has no tables.
    """
    found: list[MetaData] = []
    for target in targets:
        value: Any = load(target, _KEY, root)
        metadata = value if isinstance(value, MetaData) else getattr(value, "metadata", None)
        if not isinstance(metadata, MetaData):
            raise ConfigurationError(
                [
                    Problem(
                        "",
                        _KEY,
                        f'"{target}": expected a MetaData or a DeclarativeBase, found {value!r}',
                        code="target-wrong-kind",
                    )
                ]
            )
        if schema_of.is_empty(metadata):
            raise ConfigurationError(
                [
                    Problem(
                        "",
                        _KEY,
                        f'"{target}": it has no tables. Name a module that imports all models',
                        code="empty-metadata",
                    )
                ]
            )
        if metadata not in found:
            found.append(metadata)
    return found

"""Which Alembic project builds the application's schema, and by which tool."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from elefast.cli.init.source_tree import AlembicDirectory, SourceTree

__all__ = ["Alembic", "find_alembic"]


@dataclass(frozen=True)
class Alembic:
    """An Alembic project.

    Args:
        config: Its configuration, relative to the project; empty if Flask-Migrate has it.
        directory: Its directory with env.py; None if that was not found.
        is_flask: Whether env.py needs a Flask application, so that only ``flask db upgrade`` can run it.
        others: Configurations of further Alembic projects.
    """

    config: str
    directory: AlembicDirectory | None
    is_flask: bool
    others: tuple[str, ...] = ()

    @property
    def is_async(self) -> bool:
        """Whether env.py has an async engine."""
        env = self.directory.env if self.directory else ""
        return any(word in env for word in ("async_engine_from_config", "create_async_engine", "AsyncEngine("))

    def misses(self, tables: frozenset[str]) -> list[str]:
        """Tables of the models that no revision creates, if the first revision expects existing tables."""
        if self.directory is None or self.directory.starts:
            return []
        return sorted(tables - self.directory.tables)


def find_alembic(root: Path, tree: SourceTree, tables: frozenset[str]) -> Alembic | None:
    """Find the Alembic project that creates most of the tables. One at the top of the project wins.

    Args:
        root: The project's directory.
        tree: Its files.
        tables: The tables of the models.
    """
    from elefast.config.migrator_selection import alembic_file

    at_top = alembic_file(root)
    if "/" in at_top:  # one in a directory below is one of those that were found anyway
        at_top = ""
    candidates = [*([at_top] if at_top else []), *(path.as_posix() for path in tree.alembic_files)]
    found: list[Alembic] = []
    for config in dict.fromkeys(candidates):
        directory = _directory(root, config, tree)
        is_flask = directory is not None and "current_app" in directory.env
        if directory is not None or config == at_top:
            found.append(Alembic(config, directory, is_flask))
    if not found:
        return None

    def worth(one: Alembic) -> tuple[bool, int, int]:
        is_first = one.config == at_top
        if one.directory is None:
            return is_first, 0, 0
        return is_first, len(one.directory.tables & tables), one.directory.revisions

    best = max(found, key=worth)
    others = tuple(one.config for one in found if one is not best and one.directory != best.directory)
    return Alembic(best.config, best.directory, best.is_flask, others)


def _directory(root: Path, config: str, tree: SourceTree) -> AlembicDirectory | None:
    """The directory that a configuration leads to: from its own place, or from the project's."""
    path = root / config
    location = _location(path)
    places = [path.parent / location, root / location] if location else [path.parent]
    by_path = {(root / one.path).resolve(): one for one in tree.alembic}
    return next((by_path[place.resolve()] for place in places if place.resolve() in by_path), None)


def _location(config: Path) -> str:
    here = config.parent.as_posix()
    try:
        if config.suffix == ".toml":
            from elefast.config.toml_reader import read_toml

            value = read_toml(config).table()["tool"]["alembic"]["script_location"]
            return str(value).replace("%(here)s", here)
        parser = configparser.ConfigParser({"here": here})
        parser.read(config, encoding="utf-8")
        return parser.get("alembic", "script_location", fallback="")
    except (OSError, KeyError, ValueError, configparser.Error):
        return ""

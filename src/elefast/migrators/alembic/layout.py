"""Where an Alembic project has its files, read from its configuration as Alembic reads it.

Alembic itself is not imported. Every test process needs the layout, and the import would take longer than all other
work for the key of the template. No code of the project runs.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elefast.errors import ConfigurationError, Problem

__all__ = ["Layout", "read_layout"]

_PYPROJECT = "pyproject.toml"
_INI = "alembic.ini"
_ENV = "env.py"
_SEPARATORS = {"space": " ", "newline": "\n", "os": os.pathsep, ":": ":", ";": ";"}


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of an Alembic project.

    Args:
        directory: The working directory for Alembic: that of the configuration file, or the project directory.
        ini: The ini file, if there is one.
        toml: The pyproject.toml with a ``[tool.alembic]`` table, if there is one.
        table: That table, as text; empty without one.
        script_directory: The directory of env.py.
        version_directories: The directories of the revisions.
        recursive: Whether Alembic looks for revisions in their subdirectories, too.
        sourceless: Whether Alembic also loads compiled files that have no source.
    """

    directory: Path
    ini: Path | None
    toml: Path | None
    table: str
    script_directory: Path
    version_directories: tuple[Path, ...]
    recursive: bool
    sourceless: bool

    @property
    def env(self) -> Path:
        """The project's env.py."""
        return self.script_directory / _ENV

    def revisions(self) -> list[str]:
        """The path of each file that Alembic would load as a revision, sorted."""
        pattern = r"(?!\.#|__init__).*\.py[co]?" if self.sourceless else r"(?!\.#|__init__).*\.py"
        found: list[str] = []
        for place in self.version_directories:
            for directory, children, names in os.walk(place):
                if not self.sourceless:
                    children[:] = [name for name in children if name != "__pycache__"]
                found += [os.path.join(directory, name) for name in names if re.fullmatch(pattern, name)]
                if not self.recursive:
                    break
        return sorted(found)


def read_layout(config: Path, section: str, project: Path | None = None) -> Layout:
    """The layout of the project whose configuration is `config`.

    Alembic resolves relative locations in its working directory. That is the directory of the configuration file, or
    the project directory if env.py is found only from there: ``alembic -c conf/alembic.ini upgrade head``.

    Args:
        config: An ini file, or a pyproject.toml. A file of the other kind in the same directory is read as well.
        section: The section of the ini file.
        project: The project directory; None where only the directory of the configuration file is known.

    Raises:
        ConfigurationError: A file is missing or malformed, or the project migrates several databases.
    """
    directory = config.parent
    is_toml = config.name == _PYPROJECT
    ini, toml = (directory / _INI, config) if is_toml else (config, directory / _PYPROJECT)
    if not config.is_file():
        raise _problem(
            "config",
            f"there is no file {config}; expected the path of an alembic.ini or pyproject.toml",
            "file-missing",
        )
    ini_options = _read_ini(ini, section) if ini.is_file() else {}
    table = _read_toml(toml) if toml.is_file() else {}
    _refuse_several_databases(ini, section, ini_options)
    options = _Options(ini_options, table, directory)

    location = options.text("script_location")
    if location is None:
        where = f"[tool.alembic] of {toml}" if is_toml and not ini_options else f"section [{section}] of {ini}"
        raise _problem("config", f"there is no script_location in {where}")
    script_directory = _resolve(location, directory)
    from_project = _resolve(location, project) if project is not None else script_directory
    if project is not None and not (script_directory / _ENV).is_file() and (from_project / _ENV).is_file():
        directory, script_directory = project, from_project
    layout = Layout(
        directory=directory,
        ini=ini if ini.is_file() else None,
        toml=toml if table else None,
        table=json.dumps(table, sort_keys=True, default=str) if table else "",
        script_directory=script_directory,
        version_directories=tuple(
            _resolve(place, directory) for place in options.version_locations() or [str(script_directory / "versions")]
        ),
        recursive=options.flag("recursive_version_locations"),
        sourceless=options.flag("sourceless"),
    )
    if not layout.env.is_file():
        others = f", and no {from_project / _ENV}" if from_project != script_directory else ""
        raise _problem(
            "config", f"{config} says script_location = {location}, but there is no file {layout.env}{others}"
        )
    return layout


class _Options:
    """Options as Alembic looks them up: in the ini file first, then in the table of pyproject.toml."""

    def __init__(self, ini: Mapping[str, str], table: Mapping[str, Any], directory: Path) -> None:
        self._ini = ini
        self._table = table
        self._variables = {"here": directory.absolute().as_posix()}

    def text(self, name: str) -> str | None:
        if name in self._ini:
            return self._ini[name]
        value = self._table.get(name)
        return value % self._variables if isinstance(value, str) else None

    def flag(self, name: str) -> bool:
        return self._ini[name] == "true" if name in self._ini else self._table.get(name) is True

    def version_locations(self) -> list[str]:
        """The option of that name: a list in TOML, and text with one of several separators in an ini file."""
        if written := self._ini.get("version_locations"):
            named = self._ini.get("path_separator", self._ini.get("version_path_separator"))
            if named is None:
                return re.split(r", *|(?: +)", written)
            separator = _SEPARATORS.get(named)
            if separator is None:
                raise _problem("config", f'path_separator = "{named}": expected one of {", ".join(_SEPARATORS)}')
            return [place.strip() for place in written.split(separator) if place]
        value = self._table.get("version_locations")
        return [str(place) % self._variables for place in value] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # as TOML has it


def _read_ini(path: Path, section: str) -> dict[str, str]:
    """The options of one section that the layout needs; others may have references that only Alembic resolves."""
    parser = configparser.ConfigParser({"here": path.absolute().parent.as_posix()})
    try:
        parser.read(path, encoding="utf-8")
        if not parser.has_section(section):
            if (path.parent / _PYPROJECT).is_file() and section == "alembic":
                return {}
            others = [name for name in parser.sections() if parser.has_option(name, "script_location")]
            raise _problem(
                "section",
                f'{path} has no section "{section}"; it has a script_location in: {", ".join(others) or "none"}',
            )
        names = (
            "script_location",
            "version_locations",
            "path_separator",
            "version_path_separator",
            "recursive_version_locations",
            "sourceless",
            "databases",
        )
        found = {name: parser.get(section, name) for name in names if parser.has_option(section, name)}
    except (configparser.Error, UnicodeDecodeError) as error:
        raise _problem("config", f"{path} cannot be read: {error}") from error
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file).get("tool", {}).get("alembic", {})
    except (ValueError, RecursionError) as error:
        raise _problem("config", f"{path} cannot be read: {error}") from error
    return table if isinstance(table, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _refuse_several_databases(ini: Path, section: str, options: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a project as ``alembic init -t multidb`` makes it.

    Its section lists databases, each of which has its own section.
    """
    names = [name for name in re.split(r"[,\s]+", options.get("databases", "")) if name]
    if not names:
        return
    raise _problem(
        "config",
        f"{ini} is made for several databases ({', '.join(names)} in [{section}] databases), and a template is one "
        "database. Point alembic.config to a configuration for one of them, or build them all in a function of your "
        'own (migrator = "callable")',
    )


def _resolve(location: str, directory: Path) -> Path:
    """The path of a location for an Alembic that runs in `directory`: a path, or ``package:path/in/it``."""
    if os.path.isabs(location) or ":" not in location:
        return Path(os.path.normpath(directory / location))
    package, *rest = location.split(":")
    top, *inner = package.split(".")
    # To find a subpackage, Python would import its parents. Only the top package is found without an import.
    spec = importlib.util.find_spec(top)
    places = list(spec.submodule_search_locations or ()) if spec else []
    candidates = [Path(place, *inner, *rest) for place in [*places, str(directory / top)]]
    return next((path for path in candidates if path.is_dir()), candidates[-1])


def _problem(key: str, message: str, code: str = "alembic-config") -> ConfigurationError:
    return ConfigurationError([Problem("", f"alembic.{key}", message, code=code)])

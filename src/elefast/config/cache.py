"""The configuration that a run of tests works with: as `load_settings()` found it the last time, if nothing differs.

A run only reads the values, and pydantic takes longer to import than all the rest of a warm run. So what was found
valid is kept, with a digest over everything that it was made from: the files, the variables, the machine's name, this
package itself. Whatever is wrong, or has a difference, is read and validated as ever.

Values from variables are not written down, but taken from the variables again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from elefast.config.discovery import ALEMBIC_INI, PYPROJECT, Found, alembic_below, find
from elefast.config.loaded import Loaded, Selection
from elefast.config.provenance import Origin
from elefast.config.toml_reader import read_toml
from elefast.runtime.cache_dir import is_ours, replace
from elefast.runtime.type_guards import is_mapping, is_table

if TYPE_CHECKING:
    from elefast.config.model import Settings

__all__ = ["settings_for_run", "validated"]

_FORMAT = 2
_MOST = 8
"""Answers kept for a project: its environments and profiles take turns, and so do versions of Python."""
_HERE = os.path.dirname(os.path.abspath(__file__))
# Variables besides our own that decide what a configuration means, or whether it is one.
_LOOKED_AT = frozenset("TESTING_DB_URL PGHOST PGHOSTADDR PGSERVICE HOME USERPROFILE USER LOGNAME USERNAME".split())
_PREFIX = "ELEFAST_"
_PROFILE = "ELEFAST_PROFILE"


def settings_for_run(
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    env: Mapping[str, str],
    start: Path,
    caches: str,
    **overrides: Any,
) -> Loaded:
    """As `load_settings()`, but `settings` may be a plain object with the same attributes; see `validated`.

    Args:
        path: As there.
        profile: As there.
        env: As there.
        start: As there.
        caches: The directory for what is remembered; nothing is where it is empty.
        overrides: As there.

    Raises:
        ConfigurationError: Something is wrong; it lists everything.
    """
    found = find(start) if path is None and not overrides and caches else None
    question = _question(found, profile, env) if found is not None else ""
    kept = os.path.join(caches, f"settings-{hashlib.sha256(str(start).encode()).hexdigest()[:24]}.json")
    if found is not None:
        remembered = _recall(kept, question, found, env)
        if remembered is not None:
            return remembered
    from elefast.config.load import load_settings

    loaded = load_settings(path, profile=profile, env=env, start=start, **overrides)
    # Only if nothing changed while it was read.
    if found is not None and find(start) == found and _question(found, profile, env) == question:
        _keep(kept, question, loaded, env)
    return loaded


def validated(settings: Settings | _Plain) -> Settings:
    """The model itself, for users."""
    if not isinstance(settings, _Plain):
        return settings
    from elefast.config.model import Settings

    return Settings.model_validate(settings.model_dump())


class _Plain:
    """Values by attribute, as the model has them; the tables one level down."""

    def __init__(self, values: Mapping[str, Any], tables: bool = True) -> None:
        self._values = values
        for name, value in values.items():
            setattr(self, name, _Plain(value, tables=False) if tables and is_mapping(value) else value)

    def model_dump(self) -> dict[str, Any]:
        return dict(self._values)


def _question(found: Found, profile: str | None, env: Mapping[str, str]) -> str:
    """A digest over all that the configuration is made from."""
    with os.scandir(_HERE) as entries:
        code = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.name.endswith(".py"))
    directory = found.directory
    files = [path for path in (found.overlay, directory / PYPROJECT) if path is not None]
    state = hashlib.sha256()
    for part in (
        [_FORMAT, sys.version, sys.platform, platform.node(), socket.gethostname(), code],
        [str(directory), str(found.overlay), str(found.pyproject), (directory / ALEMBIC_INI).is_file()],
        [alembic_below(directory)],
        [profile or "", sorted(item for item in env.items() if item[0].startswith(_PREFIX) or item[0] in _LOOKED_AT)],
        sorted(item for item in os.environ.items() if item[0] in _LOOKED_AT),
        [_content(path) for path in files],
    ):
        state.update(json.dumps(part).encode() + b"\0")
    return state.hexdigest()


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(read_toml(path).content).hexdigest()
    except OSError as error:
        return str(error)


def _recall(kept: str, question: str, found: Found, env: Mapping[str, str]) -> Loaded | None:
    # Whatever is wrong with it, it is only a cache.
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        data = _answers(kept)[question]
        values: dict[str, Any] = data["values"]
        for dotted, variable in data["variables"].items():
            *table, name = dotted.split(".")
            (values[table[0]] if table else values)[name] = env[variable].strip()
        return Loaded(
            settings=cast("Settings", _Plain(values)),
            provenance={name: Origin(*origin) for name, origin in data["provenance"].items()},
            files=tuple(path for path in (found.overlay, found.pyproject) if path is not None),
            directory=found.directory,
            project=found.directory,
            migrator=Selection(*data["migrator"]),
            profile=data["profile"],
        )
    return None


def _keep(kept: str, question: str, loaded: Loaded, env: Mapping[str, str]) -> None:
    values = loaded.settings.model_dump()
    variables: dict[str, str] = {}
    for dotted, origin in loaded.provenance.items():
        if origin.kind != "environment":
            continue
        *table, name = dotted.split(".")
        place = values.get(table[0], {}) if table else values
        if len(table) > 1 or name not in place or isinstance(place[name], dict):
            return  # one of the user's own tables
        if isinstance(place[name], str):
            if place[name] != env.get(origin.name, "").strip():
                return  # made from the variable in a way that is not known here
            variables[dotted] = origin.name
            place[name] = ""
        elif isinstance(place[name], list):
            return
    data = {
        "values": values,
        "variables": variables,
        "provenance": {name: [origin.kind, origin.name, origin.line] for name, origin in loaded.provenance.items()},
        "migrator": [loaded.migrator.migrator, loaded.migrator.reason],
        "profile": loaded.profile,
    }
    # No home, a full disk, values that only Python has: then it is read the next time, too.
    with suppress(OSError, TypeError, ValueError):
        if json.loads(json.dumps(data)) != data:
            return
        answers = _answers(kept)
        answers.pop(question, None)
        answers[question] = data
        replace(kept, json.dumps(dict(list(answers.items())[-_MOST:])))


def _answers(kept: str) -> dict[str, Any]:
    """What is remembered for the project, by question, the oldest first; nothing where others could have written it."""
    with suppress(OSError, ValueError), open(kept, "rb") as file:
        known: Any = json.load(file) if is_ours(os.fstat(file.fileno()), 0o077) else None
        if is_table(known):
            return known
    return {}

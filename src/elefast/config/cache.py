"""What a run remembers of the configuration: the values that `load_settings()` found valid the last time.

Importing pydantic and building the model takes more than a tenth of a warm start, and a run only reads the values. So
valid values are kept with a digest over everything that they were made from: the files, the variables, the machine's
name, and elefast's own code. Where the digest differs, and where something is wrong, the configuration is read and
validated as usual.

Values from variables may be secret. They are not written down, but taken from the variables again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from elefast.config.discovery import ALEMBIC_INI, PYPROJECT, FoundFiles, alembic_below, find
from elefast.config.loaded import Loaded, Selection
from elefast.config.provenance import Origin
from elefast.config.toml_reader import read_toml
from elefast.runtime.cache_dir import is_private, write_atomically
from elefast.runtime.type_guards import is_table

if TYPE_CHECKING:
    from elefast.config.model import Settings

    _Model = Settings
else:
    # Type checkers see the model's attributes. At run time the model is not imported: that is what the cache saves.
    _Model = object

__all__ = ["CODE", "RememberedSettings", "settings_for_run", "validated"]

NAMED = ("roles", "scenarios")
"""The tables whose subtables have names of the project's choice; see `elefast.config.keys.named_tables`."""

CODE = ("config", "runtime", "postgres/url_variables.py", "postgres/urls.py")
"""The files and directories of elefast that decide which values are valid, and what is made of them."""

_FORMAT = 4
_MAX_ANSWERS = 8
"""Answers kept for a project, since its environments, profiles and versions of Python alternate."""
_PACKAGE = Path(__file__).parents[1]
# Variables of others that decide what a configuration means, or whether it is valid.
_FOREIGN = frozenset("TESTING_DB_URL PGHOST PGHOSTADDR PGSERVICE HOME USERPROFILE USER LOGNAME USERNAME".split())
_PREFIX = "ELEFAST_"


class _Frozen:
    """Values as attributes that cannot be set."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name} cannot be set: settings are frozen")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name} cannot be deleted: settings are frozen")

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """All values, as the method of the same name of a pydantic model gives them."""
        return {name: _dumped(value) for name, value in vars(self).items()}


def _dumped(value: Any) -> Any:
    if isinstance(value, _Frozen):
        return value.model_dump()
    return {name: _dumped(inner) for name, inner in value.items()} if is_table(value) else value


class RememberedSettings(_Frozen, _Model):
    """The values of `Settings` without pydantic: an attribute for each key, and one for each table.

    Args:
        values: What `Settings.model_dump()` gave.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        # All tables are one level down, but for those with a name of the project's; what is deeper is a value.
        frozen = {name: _Frozen(value) if is_table(value) else value for name, value in values.items()}
        named = {name: {key: _Frozen(inner) for key, inner in values[name].items()} for name in NAMED if name in values}
        super().__init__(frozen | named)


def settings_for_run(
    path: str | os.PathLike[str] | None = None,
    *,
    profile: str | None = None,
    env: Mapping[str, str],
    start: Path,
    caches: str,
    **overrides: Any,
) -> Loaded:
    """The same as `load_settings()`, but its `settings` may be `RememberedSettings`.

    Args:
        path: The same as of `load_settings()`, and so are `profile`, `env`, `start` and `overrides`.
        profile: The same.
        env: The same.
        start: The same.
        caches: The directory for what is remembered. If it is empty, nothing is remembered.
        overrides: The same. With any of them, and with a `path`, nothing is remembered.

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


def validated(settings: Settings) -> Settings:
    """Return the pydantic model itself, which users expect, for the settings of a run."""
    if not isinstance(settings, RememberedSettings):
        return settings
    from elefast.config.model import Settings

    return Settings.model_validate(settings.model_dump())


def _question(found: FoundFiles, profile: str | None, env: Mapping[str, str]) -> str:
    """A digest over all that the configuration is made from."""
    code = sorted((name, status.st_size, status.st_mtime_ns) for name, status in _code())
    directory = found.directory
    files = [path for path in (found.overlay, directory / PYPROJECT) if path is not None]
    state = hashlib.sha256()
    for part in (
        [_FORMAT, sys.version, sys.platform, platform.node(), socket.gethostname(), code],
        [str(directory), str(found.overlay), str(found.pyproject), (directory / ALEMBIC_INI).is_file()],
        [alembic_below(directory)],
        [
            profile or "",
            sorted(item for item in env.items() if item[0].startswith(_PREFIX) or item[0] in _FOREIGN),
        ],
        sorted(item for item in os.environ.items() if item[0] in _FOREIGN),
        [_content(path) for path in files],
    ):
        state.update(json.dumps(part).encode() + b"\0")
    return state.hexdigest()


def _code() -> Iterator[tuple[str, os.stat_result]]:
    for name in CODE:
        if name.endswith(".py"):
            yield name, (_PACKAGE / name).stat()
            continue
        with os.scandir(_PACKAGE / name) as entries:
            yield from ((f"{name}/{entry.name}", entry.stat()) for entry in entries if entry.name.endswith(".py"))


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(read_toml(path).content).hexdigest()
    except OSError as error:
        return str(error)


def _recall(kept: str, question: str, found: FoundFiles, env: Mapping[str, str]) -> Loaded | None:
    # A cache that has anything wrong with it is as good as none.
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        data = _answers(kept)[question]
        values: dict[str, Any] = data["values"]
        for dotted, variable in data["variables"].items():
            *table, name = dotted.split(".")
            (values[table[0]] if table else values)[name] = env[variable].strip()
        return Loaded(
            settings=RememberedSettings(values),
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
            return  # it is in one of the user's own tables
        if isinstance(place[name], str):
            if place[name] != env.get(origin.name, "").strip():
                return  # it was made from the variable in a way that is not known here
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
    # Without a home, with a full disk, or with values that only Python has, the next run reads the files, too.
    with suppress(OSError, TypeError, ValueError):
        if json.loads(json.dumps(data)) != data:
            return
        answers = _answers(kept)
        answers.pop(question, None)
        answers[question] = data
        write_atomically(kept, json.dumps(dict(list(answers.items())[-_MAX_ANSWERS:])))


def _answers(kept: str) -> dict[str, Any]:
    """What is remembered for the project, by question, the oldest first. A file that others could write has nothing."""
    with suppress(OSError, ValueError), open(kept, "rb") as file:
        known: Any = json.load(file) if is_private(os.fstat(file.fileno()), 0o077) else None
        if is_table(known):
            return known
    return {}

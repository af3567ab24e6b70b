"""The environment as a layer: `ELEFAST_DOCKER__PORT` and the like. An unknown variable with our prefix is an error.

Text becomes a value of the key's type. Text that cannot be converted stays text, and validation reports what was
expected. The environment is an argument: nothing here reads `os.environ`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elefast.config.keys import Key, KeyPath, all_keys, all_tables, closest, named_tables, variable
from elefast.config.layers import Finding, Layer, places_from
from elefast.config.messages import suggestion, wrong_value
from elefast.config.provenance import Origin
from elefast.runtime.type_guards import is_table

__all__ = ["ALIASES", "PREFIX", "PROFILE", "environment_layer"]

PREFIX = "ELEFAST_"
PROFILE = "ELEFAST_PROFILE"

ALIASES: tuple[tuple[str, KeyPath], ...] = (
    ("TESTING_DB_URL", ("engine", "url")),
    ("ELEFAST_URL", ("engine", "url")),
    ("ELEFAST_HOST_PORT", ("docker", "port")),
)
"""Other names of keys; a later one wins over an earlier one, and the key's own variable over all."""

_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def environment_layer(env: Mapping[str, str], directory: Path) -> Layer:
    """Make a layer of the environment.

    Args:
        env: The environment. Empty variables count as unset.
        directory: The directory that relative paths start from.
    """
    given = {name: value for name, value in sorted(env.items()) if value}
    origins: dict[KeyPath, Origin] = {}
    layer = Layer(places_from(origins), directory)
    used = {PROFILE}

    def take(name: str, path: KeyPath) -> str | None:
        if name in given:
            used.add(name)
            origins[path] = Origin("environment", name)
        return given.get(name)

    by_path = {key.path: key for key in all_keys()}
    for name, path in ALIASES:
        if text := take(name, path):
            layer.add({path[-1]: _converted(by_path[path], text)}, path[:-1])
    for table in (*all_tables(), *named_tables()):
        if table.name and (text := take(variable((table.name,)), (table.name,))):
            _add_object(layer, (table.name,), text, origins)
    for key in all_keys():
        name = variable(key.path)
        if text := take(name, key.path):
            if key.is_open:
                _add_object(layer, key.path, text, origins)
            else:
                layer.add({key.path[-1]: _converted(key, text)}, key.path[:-1])
        if key.is_open:
            for part in [part for part in given if part.startswith(f"{name}__")]:
                path = (*key.path, *part.removeprefix(f"{name}__").lower().split("__"))
                layer.tables.add(path[0])
                layer.add_open(path, _guessed(take(part, path) or ""))
    for table in named_tables():
        start = f"{variable((table.name,))}__"
        known = {key.path[-1]: key for key in table.keys}
        for name in [name for name in given if name.startswith(start)]:
            named, _, last = name.removeprefix(start).lower().rpartition("__")
            if named and last in known:
                text = take(name, (table.name, named, last)) or ""
                layer.add({named: {last: _converted(known[last], text)}}, (table.name,))
    for name in given:
        if name.startswith(PREFIX) and name not in used:
            layer.findings.append(_unknown(name))
    return layer


def _unknown(name: str) -> Finding:
    legal = [PROFILE, *(alias for alias, _ in ALIASES if alias.startswith(PREFIX))]
    legal += [variable(key.path) for key in all_keys()]
    legal += [variable((table.name,)) for table in (*all_tables(), *named_tables()) if table.name]
    # Compared without the prefix, since that makes all names similar.
    better = closest(name.removeprefix(PREFIX), [candidate.removeprefix(PREFIX) for candidate in legal])
    better = PREFIX + better if better else ""
    return Finding(Origin("environment", name), "", f"unknown variable{suggestion(better)}", code="unknown-variable")


def _add_object(layer: Layer, path: KeyPath, text: str, origins: dict[KeyPath, Origin]) -> None:
    """Add a table that one variable holds as JSON. Its values win over those of aliases."""
    data = _json(text)
    if not is_table(data):
        layer.wrong(path, wrong_value("a JSON object", path[-1], text))
        return
    for name in data:
        origins[(*path, name)] = origins[path]
    if len(path) == 1:
        layer.add(data, path)
    else:
        layer.add({path[-1]: data}, path[:-1])


def _converted(key: Key, text: str) -> Any:
    """The text as a value of the key's type, or the text itself if that is impossible."""
    text = text.strip()
    if bool in key.types and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if int in key.types:
        try:
            return int(text)
        except ValueError:
            return text
    if list in key.types and text.startswith("["):
        data = _json(text)
        return text if data is None else data
    if text in key.choices:
        return text
    if list in key.types and (str not in key.types or "," in text):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _guessed(text: str) -> Any:
    """The text as JSON if it is a number, true or false: the user's own tables have no types to convert to."""
    data = _json(text)
    return text if data is None else data


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return None

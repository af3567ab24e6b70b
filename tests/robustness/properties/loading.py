"""What comes of a configuration: it is in force, or one error says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import elefast
from elefast.config import Loaded, load_settings
from elefast.errors import ConfigurationError
from tests.robustness.properties.documents import SECRET
from tests.robustness.properties.rule import check_configuration

__all__ = ["IN_FORCE", "REFUSED", "load", "outcome", "same", "write"]

IN_FORCE = "it is in force, and a stack can be made of it"
REFUSED = "one error says what is wrong, and where"


def load(place: Path, env: Mapping[str, str] | None = None, **arguments: Any) -> Loaded | None:
    """The configuration, or None where it was refused as the rule has it."""
    try:
        loaded = load_settings(place, env=env or {}, **arguments)
    except ConfigurationError as error:
        check_configuration(error)
        return None
    for text in (repr(loaded), repr(loaded.settings), str(loaded.settings)):
        assert SECRET not in text
    return loaded


def write(place: Path, overlay: bytes | None, pyproject: bytes | None) -> None:
    """Write both files, or take them away."""
    for name, content in (("elefast.toml", overlay), ("pyproject.toml", pyproject)):
        if content is None:
            (place / name).unlink(missing_ok=True)
        else:
            (place / name).write_bytes(content)


def outcome(place: Path, env: Mapping[str, str] | None = None, **arguments: Any) -> str:
    """What comes of a configuration. What is accepted can be used: every text can go anywhere, a stack can be made."""
    env = env or {}
    loaded = load(place, env, **arguments)
    if loaded is None:
        return REFUSED
    values = loaded.settings.model_dump()
    for text in _texts(values):
        assert "\0" not in text
        text.encode()
    try:
        stack = elefast.from_config(place, env={**env, "CI": "1"}, **arguments)
    except ConfigurationError as error:
        # Only what SQLAlchemy and the drivers have to say is not known before.
        check_configuration(error, table="engine.")
        return REFUSED
    with stack:
        assert not stack.started
        assert same(stack.settings.model_dump(), values)
        assert SECRET not in repr(stack)
    return IN_FORCE


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for name, inner in value.items() for text in (str(name), *_texts(inner))]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def same(one: Any, other: Any) -> bool:
    """Equal, where a number that is none is equal to itself."""
    return repr(one) == repr(other)

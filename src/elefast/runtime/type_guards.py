"""Type guards for values that were read from TOML, JSON or the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

__all__ = ["is_list", "is_mapping", "is_table", "is_tuple"]


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether `value` is a dictionary whose keys are all strings, as in TOML and JSON."""
    return is_mapping(value) and isinstance(value, dict) and all(isinstance(name, str) for name in value)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether `value` is a mapping."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether `value` is a list."""
    return isinstance(value, list)


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    """Whether `value` is a tuple."""
    return isinstance(value, tuple)

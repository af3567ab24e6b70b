"""TOML as Python reads it, with all that can be wrong in it as one kind of error.

It must not know files or keys, and costs no import where nothing is parsed.
"""

from __future__ import annotations

from typing import Any

__all__ = ["TooDeepError", "parse"]


class TooDeepError(ValueError):
    """The document is nested more deeply than Python's parser can follow."""


def parse(text: str) -> dict[str, Any]:
    """The document.

    Raises:
        ValueError: It is none; `tomllib.TOMLDecodeError` where the parser says so itself.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise TooDeepError("it is nested too deeply") from None

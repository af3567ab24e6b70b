"""Replaces passwords in values before they are displayed.

The settings hold plain values. `repr`, error messages and the command line pass them through `redact`.
"""

from __future__ import annotations

import re
from typing import Any

from elefast.runtime.type_guards import is_list, is_mapping

__all__ = ["REDACTED", "is_secret", "redact"]

REDACTED = "***"
"""The text in place of a password."""

# What comes before a password, which ends at the last "@". A password with an "@" should have been percent-encoded, and
# must not show its end if it was not.
_BEFORE_PASSWORD = re.compile(r"(?://|(?<=:)/)[^:@/?#\s]*:")  # a path library turns two slashes into one
_BEFORE_PASSWORD_WITHOUT_SCHEME = re.compile(r"^[^:@\s]*:(?!//)")
# A URL whose "@" and host were forgotten: the last part looks like a port, but is no number.
_PASSWORD_WITHOUT_HOST = re.compile(r"((?://|(?<=:)/)[^:@/?#\s\[]*):(?!\d+(?:[/?#,]|$))[^/?#]+")
_KEYWORD_AND_SECRET = re.compile(  # a keyword of libpq, an option of a URL or of a program, a key of JSON
    r"""((?:pass|password|passwd|pwd|secret|token)(?:\s*=|["']\s*:)\s*)('(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?|[^\s&]*)""",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"pass(word|wd|phrase)?$|pwd$|secret|token", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a key, option or parameter of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def redact(key: str, value: Any) -> Any:
    """`value` with its passwords replaced by `REDACTED`.

    Args:
        key: The key of the value in the settings. The result depends on the end of it.
        value: A value, which may be nested. A value other than a string, list or mapping is returned as it is.
    """
    if is_mapping(value):
        return {name: redact(str(name), inner) for name, inner in value.items()}
    if is_list(value):
        return [redact(key, inner) for inner in value]
    if value and not isinstance(value, bool) and is_secret(key):
        return REDACTED
    if isinstance(value, str):
        value = _KEYWORD_AND_SECRET.sub(rf"\1{REDACTED}", value)
        if "@" not in value:
            return _PASSWORD_WITHOUT_HOST.sub(rf"\1:{REDACTED}", value)
        value = _redact_to_last_at(_BEFORE_PASSWORD, value)
        if key.endswith("url"):
            value = _redact_to_last_at(_BEFORE_PASSWORD_WITHOUT_SCHEME, value)
    return value


def _redact_to_last_at(before: re.Pattern[str], text: str) -> str:
    """`text` with `REDACTED` between the match of `before` and the last "@"."""
    at = text.rindex("@")
    match = before.search(text, 0, at)
    return f"{text[: match.end()]}{REDACTED}{text[at:]}" if match else text

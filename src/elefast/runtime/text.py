"""Makes text safe to display: on a terminal, in a log, and in a UTF-8 file.

Names, values and messages of servers may contain characters that move the cursor, characters that hide their
neighbours, and halves of characters.
"""

from __future__ import annotations

import re
from datetime import datetime

__all__ = ["escape_controls", "local_time", "one_line", "shorten_lines"]

# Control characters, direction marks, Unicode's own line separators, and surrogates for bytes that were not UTF-8.
# Fewer than `str.isprintable` excludes, because messages in French contain no-break spaces.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_LONGEST = 80
_HEAD, _TAIL = 1000, 300


def escape_controls(text: str) -> str:
    """`text` with unsafe characters escaped as in JSON. Newlines and tabs are kept."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shorten_lines(text: str) -> str:
    """`text` with unsafe characters escaped, and without the middle of very long lines.

    The end of a line is kept because it often has the advice.
    """
    lines = escape_controls(text).split("\n")
    return "\n".join(f"{it[:_HEAD]} ... {it[-_TAIL:]}" if len(it) > _HEAD + _TAIL + 5 else it for it in lines)


def one_line(text: str, longest: int = _LONGEST) -> str:
    """`text` on one line, with unsafe characters escaped, and cut if it is longer than `longest` characters."""
    shown = escape_controls(text[: longest + 1].replace("\n", "\\n").replace("\t", "\\t"))
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def local_time(moment: str) -> str:
    """A time in ISO format as local time, to the minute. Text in another format is returned as it is."""
    try:
        return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return moment

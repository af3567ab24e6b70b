"""Text from anywhere as text that can be shown anywhere: on a terminal, in a log, in a file of UTF-8.

Names, values and what servers say may have characters that move the cursor, hide what stands beside them, or are no
characters at all. This module knows nothing of the rest, so that everything may import it.
"""

from __future__ import annotations

import re
from datetime import datetime

__all__ = ["local_time", "printable", "readable", "short"]

# Controls, marks that turn the direction, ends of lines that only Unicode knows, and what is left of bytes that are no
# UTF-8. Not all that Python calls unprintable: a French server speaks with no-break spaces.
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_LONGEST = 80
_HEAD, _TAIL = 1000, 300


def printable(text: str) -> str:
    """`text` with its odd characters escaped as JSON has them; ends of lines and tabs stay."""
    return _ODD.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def readable(text: str) -> str:
    """`printable`, and without the middle of lines that nobody would read to their end, where the advice is."""
    lines = printable(text).split("\n")
    return "\n".join(f"{it[:_HEAD]} ... {it[-_TAIL:]}" if len(it) > _HEAD + _TAIL + 5 else it for it in lines)


def short(text: str, longest: int = _LONGEST) -> str:
    """`text` on one line, cut where it is longer than `longest` characters."""
    shown = printable(text[: longest + 1].replace("\n", "\\n").replace("\t", "\\t"))
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def local_time(moment: str) -> str:
    """A moment in ISO form as the clock on the wall had it, to the minute; what is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return moment

"""Names that carry their own mark, so that elefast can prove which databases are its own.

    {prefix}_{kind}{owner}_{serial}_{check}

The mark is part of the name because a name comes into being together with its database, in one
statement, where a comment or a registry row would come later and could be missing after a crash.
Nothing here talks to a server.
"""

from __future__ import annotations

import re
import secrets
from enum import StrEnum
from typing import NamedTuple

from elefast.runtime.hashing import short_digest

__all__ = ["Kind", "Name", "new_owner", "new_serial", "serial_from_number"]

# PostgreSQL cuts an identifier after NAMEDATALEN - 1 bytes without a word (sql-syntax-lexical).
MAX_BYTES = 63
OWNER_LENGTH = 12
CHECK_LENGTH = 8
_SERIAL_LENGTH = 8
_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_PATTERN = re.compile(
    rf"(?P<prefix>.*)_(?P<kind>[a-z])(?P<owner>[0-9a-v]{{{OWNER_LENGTH}}})"
    rf"_(?P<serial>[0-9a-v]{{1,{_SERIAL_LENGTH}}})_(?P<check>[0-9a-v]{{{CHECK_LENGTH}}})",
    re.DOTALL,
)


class Kind(StrEnum):
    """What a database is for; the letter stands in its name."""

    CLONE = "d"
    """A test's database; `owner` is the run that made it."""
    DRAFT = "b"
    """A template that is being built; `owner` is its key."""
    TEMPLATE = "t"
    """A sealed template that outlives the run; `owner` is its key."""
    VOLATILE = "v"
    """A sealed template for one run; `owner` is its key, which has the run in it."""
    FAILED = "f"
    """A template whose build failed, with the error in its comment; `owner` is the run that failed."""
    SPARE = "r"
    """A database as its template made it, left for the next run; `owner` is its template."""
    KEPT = "k"
    """A test's database that was kept for a look; `owner` is the run that made it."""


class Name(NamedTuple):
    """The name of a database of elefast's own, in parts; ``str()`` is the name itself.

    Args:
        prefix: Free text before the mark; cut so that the whole fits into 63 bytes.
        kind: What the database is for.
        owner: Twelve characters that say whose it is: a run, or the key of a template.
        serial: One to eight characters that make it unique within its owner.
    """

    prefix: str
    kind: Kind
    owner: str
    serial: str

    def __str__(self) -> str:
        tail = f"_{self.kind}{self.owner}_{self.serial}"
        room = MAX_BYTES - len(tail) - 1 - CHECK_LENGTH
        # NUL is the one character that PostgreSQL takes nowhere, and what is left of bytes that are no UTF-8 is none;
        # a cut inside a character is undone.
        prefix = self.prefix.replace("\0", "").encode(errors="replace")[:room].decode(errors="ignore")
        head = prefix + tail
        return f"{head}_{_check(head)}"

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """The parts of `text`, or None where it does not bear elefast's mark."""
        match = _PATTERN.fullmatch(text)
        if match is None or match["check"] != _check(text[: -CHECK_LENGTH - 1]):
            return None
        try:
            kind = Kind(match["kind"])
        except ValueError:
            return None
        return cls(match["prefix"], kind, match["owner"], match["serial"])


def _check(head: str) -> str:
    return short_digest(f"elefast database {head}", CHECK_LENGTH)


def new_owner() -> str:
    """A random owner (60 bits), from the system's generator, since tests seed the other one."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(OWNER_LENGTH))


def new_serial() -> str:
    """A random serial (40 bits), for names that several processes make for one owner."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_SERIAL_LENGTH))


def serial_from_number(number: int) -> str:
    """`number` as a serial, for names that one process counts."""
    digits = ""
    while number:
        number, place = divmod(number, 32)
        digits = _ALPHABET[place] + digits
    return digits or "0"

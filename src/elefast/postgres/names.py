"""Names of databases, with a mark that proves that elefast has made the database.

    {prefix}_{kind}{owner}_{serial}_{check}

The mark is part of the name, because one statement creates the database and its name. A comment or a row in a table
would be written by a second statement, which a crash could prevent. This module connects to nothing.
"""

from __future__ import annotations

import re
import secrets
from enum import StrEnum
from typing import NamedTuple

from elefast.runtime.hashing import short_digest

__all__ = ["Kind", "Name", "new_owner", "new_serial", "serial_from_number"]

# PostgreSQL truncates a longer identifier without an error (NAMEDATALEN - 1, see "Identifiers" in its manual).
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
    """The purpose of a database. Its letter is part of the name."""

    CLONE = "d"
    """A database for tests; `owner` is the run that made it."""
    DRAFT = "b"
    """A template that is being built; `owner` is its key."""
    TEMPLATE = "t"
    """A template that outlives the run; `owner` is its key."""
    VOLATILE = "v"
    """A template for one run; `owner` is its key, which contains the run."""
    FAILED = "f"
    """A template whose build failed, with the error in its comment; `owner` is the run that failed."""
    SPARE = "r"
    """An unused copy of a template for the next run; `owner` stands for the template."""
    SNAPSHOT = "s"
    """A snapshot of a test's database; `owner` is the run that made it."""
    KEPT = "k"
    """A test's database that was kept for inspection; `owner` is the run that made it."""


class Name(NamedTuple):
    """The parts of the name of a database that elefast has made. ``str()`` gives the name.

    Args:
        prefix: Free text before the mark, which is cut so that the name fits into 63 bytes.
        kind: The purpose of the database.
        owner: Twelve characters for the run or the template that it belongs to.
        serial: One to eight characters that make the name unique for its owner.
    """

    prefix: str
    kind: Kind
    owner: str
    serial: str

    def __str__(self) -> str:
        tail = f"_{self.kind}{self.owner}_{self.serial}"
        room = MAX_BYTES - len(tail) - 1 - CHECK_LENGTH
        # PostgreSQL accepts every character but NUL. Surrogates, which stand for bytes that were not UTF-8, are
        # replaced. A character that the cut would split is left out.
        prefix = self.prefix.replace("\0", "").encode(errors="replace")[:room].decode(errors="ignore")
        head = prefix + tail
        return f"{head}_{_check(head)}"

    @classmethod
    def parse(cls, text: str) -> Name | None:
        """The parts of the name `text`, or None if it does not bear elefast's mark."""
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
    """A random owner (60 bits), from the system's generator, because tests seed Python's."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(OWNER_LENGTH))


def new_serial() -> str:
    """A random serial (40 bits), for an owner whose databases several processes make."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_SERIAL_LENGTH))


def serial_from_number(number: int) -> str:
    """`number` as a serial, for an owner whose databases one process makes and numbers."""
    digits = ""
    while number:
        number, place = divmod(number, 32)
        digits = _ALPHABET[place] + digits
    return digits or "0"

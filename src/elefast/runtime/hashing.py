"""Digests of text and bytes, for the names of databases and the keys of templates."""

from __future__ import annotations

import hashlib

__all__ = ["digest", "short_digest"]

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def digest(*parts: str | bytes) -> str:
    """The digest of `parts` in order, as 32 hexadecimal digits.

    Each part is preceded by its length, so that ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


def short_digest(text: str, length: int) -> str:
    """The first `length` characters (5 bits each) of the digest of `text`, for the names of databases."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=32).digest(), "big")
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in range(length))

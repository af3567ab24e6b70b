"""The key of a template: the digest of everything that was declared for it, with a name for each part.

It knows digests and labels, and not where they come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Input", "Key", "digest", "short"]

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


def short(text: str, length: int) -> str:
    """The first `length` characters (5 bits each) of the digest of `text`, for the names of databases."""
    number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=32).digest(), "big")
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in range(length))


class Input(NamedTuple):
    """One declared thing that a template depends on.

    Args:
        label: What a person calls it: ``migrations/versions/0001_users.py``, ``extensions``.
        digest: A digest of its content; see `digest`.
    """

    label: str
    digest: str

    @classmethod
    def of(cls, label: str, *content: str | bytes) -> Input:
        """An input from its content."""
        return cls(label, digest(*content))


@dataclass(frozen=True, slots=True)
class Key:
    """What a template is made from, and so what it is called."""

    inputs: tuple[Input, ...]

    @classmethod
    def of(cls, inputs: Iterable[Input]) -> Key:
        """A key over `inputs`; their order does not matter."""
        return cls(tuple(sorted(inputs, key=lambda item: (item.label, item.digest))))

    @property
    def digest(self) -> str:
        """The digest over all labels and contents."""
        return digest(*(part for item in self.inputs for part in (item.label, item.digest)))

    def changes(self, earlier: Sequence[Input]) -> list[str]:
        """What differs from the inputs of an earlier template, in words: ``changed``, ``added``, ``removed``."""
        now = {item.label: item.digest for item in self.inputs}
        then = {item.label: item.digest for item in earlier}
        words = [f"changed {label}" for label in now if label in then and now[label] != then[label]]
        words += [f"added {label}" for label in now if label not in then]
        words += [f"removed {label}" for label in then if label not in now]
        return words

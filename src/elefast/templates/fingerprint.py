"""The key of a template: its declared inputs, each with a label and a digest.

It knows labels and digests. It must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from elefast.runtime.hashing import digest

__all__ = ["Input", "Key"]


class Input(NamedTuple):
    """One declared input of a template.

    Args:
        label: Its name for people: ``migrations/versions/0001_users.py``, ``extensions``.
        digest: The digest of its content.
    """

    label: str
    digest: str

    @classmethod
    def of(cls, label: str, *content: str | bytes) -> Input:
        """An input with the digest of `content`."""
        return cls(label, digest(*content))


@dataclass(frozen=True, slots=True)
class Key:
    """The inputs of a template; their digest is a part of its name."""

    inputs: tuple[Input, ...]

    @classmethod
    def of(cls, inputs: Iterable[Input]) -> Key:
        """A key of `inputs`, whose order does not matter."""
        return cls(tuple(sorted(inputs, key=lambda item: (item.label, item.digest))))

    @property
    def digest(self) -> str:
        """The digest of all labels and contents."""
        return digest(*(part for item in self.inputs for part in (item.label, item.digest)))

    def changes(self, earlier: Sequence[Input]) -> list[str]:
        """What differs from the inputs of an earlier template, in words: ``changed``, ``added``, ``removed``."""
        now = {item.label: item.digest for item in self.inputs}
        then = {item.label: item.digest for item in earlier}
        words = [f"changed {label}" for label in now if label in then and now[label] != then[label]]
        words += [f"added {label}" for label in now if label not in then]
        words += [f"removed {label}" for label in then if label not in now]
        return words

"""The key of a template: the digest of everything that was declared for it, with a name for each part.

It knows digests and labels, and not where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from elefast.runtime.hashing import digest

__all__ = ["Input", "Key"]


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

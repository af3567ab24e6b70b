"""What is known of one code, besides the message of the error that has it."""

from __future__ import annotations

from dataclasses import dataclass

from elefast.errors import ElefastError, LeakWarning

__all__ = ["Explanation"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The long story of a code, in Markdown with nothing but code in backticks.

    Args:
        code: As in the note of an error: ``docker-unreachable``.
        raised_as: The class of the errors that have it.
        title: What is wrong, in a few words and without a full stop.
        meaning: What elefast wanted to do, and why it could not or would not.
        causes: What usually is behind it, the most likely first.
        remedy: What to do, one step or one way each, with its commands and keys in backticks.
    """

    code: str
    raised_as: type[ElefastError] | type[LeakWarning]
    title: str
    meaning: str
    causes: tuple[str, ...]
    remedy: tuple[str, ...]

    @property
    def exit_status(self) -> int | None:
        """What the command line ends with; None for a warning."""
        return self.raised_as.exit_status if issubclass(self.raised_as, ElefastError) else None

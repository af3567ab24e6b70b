"""A provider's error in a form that can pass from one process to another.

This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

__all__ = ["ProviderFailure"]


class ProviderFailure(Exception):  # noqa: N818  it becomes one of elefast's errors for users
    """A provider could not give a server. The user's process turns this into one of elefast's errors.

    Args:
        kind: The name of a class of `elefast.errors`.
        message: The whole message.
        code: The code of the error, which `elefast explain` explains.
    """

    def __init__(self, kind: str, message: str, *, code: str) -> None:
        self.kind = kind
        self.message = message
        self.code = code
        super().__init__(message)

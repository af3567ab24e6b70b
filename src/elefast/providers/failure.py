"""Why a provider could not give a server, in a form that goes from one process to another.

Must stay light: the supervisor imports it.
"""

from __future__ import annotations

__all__ = ["ProviderFailure"]


class ProviderFailure(Exception):  # noqa: N818  it becomes one of elefast's errors for users
    """Why a provider could not give a server. The user's process raises it as one of elefast's errors.

    Args:
        kind: Name of a class of `elefast.errors`.
        message: Its whole message.
        code: Its name in `elefast.errors.explanations`.
    """

    def __init__(self, kind: str, message: str, *, code: str) -> None:
        self.kind = kind
        self.message = message
        self.code = code
        super().__init__(message)

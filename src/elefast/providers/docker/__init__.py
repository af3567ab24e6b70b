"""The seam for servers in containers: an issue of its own builds it, until then it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from elefast.errors import ServerUnavailableError

if TYPE_CHECKING:
    from elefast.providers.lease import Lease

__all__ = ["DockerProvider", "probe"]


def probe() -> str:
    """Why ``auto`` has to pass Docker over; empty where a container can be had. Takes no time."""
    return "the docker extra is not supported yet"


class DockerProvider:
    """Takes whatever ``[tool.elefast.docker]`` says, and refuses."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def acquire(self) -> Lease:
        """Always raises.

        Raises:
            ServerUnavailableError: This version has no containers.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ServerUnavailableError(
            "docker is not supported by this version of elefast\n"
            'use provider = "local" (pip install "elefast[embedded]" brings a PostgreSQL), '
            "or set ELEFAST_ENGINE__URL to a server that runs already"
        )

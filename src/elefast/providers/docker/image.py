"""The configuration of an image: where PostgreSQL keeps its data, and how the server is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

__all__ = ["Layout"]

USUAL_DATA = "/var/lib/postgresql/data"


@dataclass(frozen=True, slots=True)
class Layout:
    """The part of an image's configuration that decides how a container is created.

    Args:
        identity: The image's id, which identifies it even if a tag moves.
        reference: As the project wrote it.
        mount: Where to mount memory for the data: the image's volume around the data directory. At any other path the
            engine would mount an anonymous volume over the data directory.
        command: The server's command line, without the settings.
        major: The major version of PostgreSQL; 0 if the image does not name it.
        initdb: The arguments that the image passes to ``initdb``.
    """

    identity: str
    reference: str
    mount: str
    command: tuple[str, ...]
    major: int
    initdb: str

    @classmethod
    def of(cls, attrs: Mapping[str, Any], reference: str) -> Layout:
        """The layout by the engine's description of the image.

        Args:
            attrs: The engine's description.
            reference: The image, as the project wrote it.
        """
        config: Mapping[str, Any] = attrs.get("Config") or {}
        variables: Sequence[str] = config.get("Env") or ()
        env: dict[str, str] = {name: value for name, _, value in (item.partition("=") for item in variables)}
        volumes = [str(PurePosixPath(path)) for path in config.get("Volumes") or ()]
        data = str(PurePosixPath(env.get("PGDATA") or USUAL_DATA))
        around = [path for path in volumes if PurePosixPath(data).is_relative_to(path)]
        words = tuple(str(word) for word in config.get("Cmd") or ())
        # Keep arguments of the image, such as the libraries that an extension has to preload.
        command = words if words and words[0].rpartition("/")[2] == "postgres" else ()
        major = env.get("PG_MAJOR", "")
        return cls(
            identity=str(attrs["Id"]),
            reference=reference,
            mount=max(around, key=len, default=data),
            command=command,
            major=int(major) if major.isdecimal() else 0,
            initdb=env.get("POSTGRES_INITDB_ARGS", ""),
        )

"""What an image says about itself: where PostgreSQL keeps its data, and how it is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

__all__ = ["Layout"]

USUAL_DATA = "/var/lib/postgresql/data"


@dataclass(frozen=True, slots=True)
class Layout:
    """The part of an image's configuration that matters.

    Args:
        identity: The image's id; a tag may move, this does not.
        reference: As the project wrote it.
        mount: Where a mount keeps the data off the disk: the image's volume around the data directory. It must be
            exactly there, or the engine puts an anonymous volume over it.
        command: The server's command line, without the settings.
        major: The version of PostgreSQL; 0 where the image does not say.
        initdb: The arguments that it gives ``initdb``.
    """

    identity: str
    reference: str
    mount: str
    command: tuple[str, ...]
    major: int
    initdb: str

    @classmethod
    def of(cls, attrs: Mapping[str, Any], reference: str) -> Layout:
        """Read it from what the engine says about the image."""
        config: Mapping[str, Any] = attrs.get("Config") or {}
        variables: Sequence[str] = config.get("Env") or ()
        env: dict[str, str] = {name: value for name, _, value in (item.partition("=") for item in variables)}
        volumes = [str(PurePosixPath(path)) for path in config.get("Volumes") or ()]
        data = str(PurePosixPath(env.get("PGDATA") or USUAL_DATA))
        around = [path for path in volumes if PurePosixPath(data).is_relative_to(path)]
        words = tuple(str(word) for word in config.get("Cmd") or ())
        # Arguments of the image, such as the libraries that an extension has to preload, stay in effect.
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

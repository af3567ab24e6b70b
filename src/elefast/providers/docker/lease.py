"""The lease on a container."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elefast.errors import ElefastError
from elefast.providers.docker.cleanup import release
from elefast.providers.files.fork_safe_lock import ForkSafeLock

if TYPE_CHECKING:
    from sqlalchemy import URL

    from elefast.providers.docker.container import ContainerSpec
    from elefast.providers.docker.engine import DockerEngine
    from elefast.providers.docker.readiness import Access
    from elefast.providers.docker.sharing import Share

__all__ = ["DockerLease"]

_log = logging.getLogger("elefast")


@dataclass(frozen=True, slots=True)
class Found:
    """A container whose server answers.

    Args:
        container: The container's id.
        access: How to connect.
        version: The version of the server, such as ``18.1``.
        notes: What had to be removed or repaired first.
    """

    container: str
    access: Access
    version: str
    notes: tuple[str, ...]


class DockerLease:
    """A lease on a container. It is a shared lock, which ends with this process even if the process is killed.

    Args:
        engine: Where the container is.
        spec: How it was created.
        found: The container.
        share: Its locks.
        users: The descriptor of this process's lock.
        reason: Why this provider was chosen.
    """

    provider = "docker"
    owned = True

    def __init__(
        self,
        engine: DockerEngine,
        spec: ContainerSpec,
        found: Found,
        share: Share,
        users: int,
        *,
        reason: str,
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._access = found.access
        self._share = share
        self._users = ForkSafeLock(users)
        self.reason = reason
        self.container = found.container
        """The container's id."""
        self.name = spec.container_name
        """The container's name."""
        self.version = found.version
        """The version of the server, such as ``18.1``."""
        self.notes = found.notes
        """What had to be removed or repaired first."""
        self.ephemeral = not spec.reuse
        self._engine_is_silent = False

    def __repr__(self) -> str:
        return f"<DockerLease {self.description}>"

    @property
    def description(self) -> str:
        """Version, image, container, place of the data, and the engine with the reason for it."""
        spec = self._spec
        data = "memory" if spec.in_memory else "a volume"
        shared = "not kept" if self.ephemeral else "kept"
        return (
            f"PostgreSQL {self.version} ({spec.layout.reference}) in container {self.name}, "
            f"data in {data}, shared, {shared}; {'; '.join([str(self._engine), *self.notes])}"
        )

    @property
    def url(self) -> URL:
        """Maintenance access as superuser."""
        from sqlalchemy import URL

        return URL.create(
            "postgresql+psycopg",
            username=self._access.user,
            password=self._access.password,
            host=self._access.host,
            port=self._access.port,
            database="postgres",
        )

    def ended(self) -> str:
        """Why the container has ended. An engine that does not answer may come back, and the container with it."""
        from docker.errors import NotFound

        if self._engine_is_silent:  # each request may take a minute
            return ""
        try:
            with self._engine.doing("looking at the container"):
                try:
                    state = self._engine.client.containers.get(self.container).attrs["State"]
                except NotFound:
                    return f"container {self.name} was removed"
        except ElefastError as error:
            _log.info("did not see container %s: %s", self.name, error)
            self._engine_is_silent = True
            return ""
        if state["Status"] not in ("exited", "dead", "removing"):
            return ""
        memory = ", out of memory" if state.get("OOMKilled") else ""
        return f"container {self.name} has ended (exit code {state['ExitCode']}{memory})"

    def hold(self) -> None:
        """Leave the container running after its last lease, until ``elefast down``."""
        if self._users.is_ours:
            self._share.hold()

    def release(self) -> None:
        """End the lease. In a forked child this does nothing, because the lock is the parent's."""
        users = self._users.detach()
        if users < 0:
            return
        try:
            release(self._engine, self._spec, self._share, users)
        except ElefastError as error:
            _log.warning("container %s is left for the next run to remove: %s", self.name, error)
        finally:
            self._engine.close()

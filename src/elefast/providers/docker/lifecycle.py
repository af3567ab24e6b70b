"""Creates, starts, repairs or replaces a container until it runs.

Only the process that has the turn calls this, so no other process of elefast changes the container meanwhile. The
engine and its users may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from elefast.errors import RefusedError, ServerStartError
from elefast.providers.docker.container import CONFIG, OWNER, PORT, PROJECT, ContainerSpec
from elefast.providers.docker.start_errors import died, log_end, name_taken, port_taken, start_error
from elefast.runtime import clock

if TYPE_CHECKING:
    from elefast.providers.docker.engine import DockerEngine

__all__ = ["ContainerLifecycle", "remove"]

REMOVAL_TIMEOUT = 30.0
START_ATTEMPTS = 3
INITIALIZED = "PostgreSQL init process complete"


class ContainerLifecycle:
    """Creates, starts, repairs or replaces the one container of a specification.

    Args:
        engine: Where the container is.
        spec: The container.
        clear_name: Called with the id and the labels of another container of this project that has the name. It
            removes that container if no process uses it, and raises an error otherwise.
    """

    def __init__(
        self, engine: DockerEngine, spec: ContainerSpec, clear_name: Callable[[str, Mapping[str, str]], None]
    ) -> None:
        self._engine = engine
        self._spec = spec
        self._clear_name = clear_name
        self._created: Any = None
        self.notes: list[str] = []
        """What had to be repaired, for the report."""

    @property
    def created(self) -> bool:
        """Whether this object created the container."""
        return self._created is not None

    def remove_created(self) -> None:
        """Remove the container if this object created it."""
        created, self._created = self._created, None
        if created is not None:
            remove(self._engine, created)

    def ensure_running(self, *, replace: bool) -> Any:
        """The container, running.

        Args:
            replace: Do not use a container that exists: the processes that used it have ended.

        Raises:
            ServerStartError: It does not start.
            RefusedError: A container that is not elefast's has its name.
        """
        deadline = clock.now() + REMOVAL_TIMEOUT
        while True:
            container = self._find()
            if container is None:
                container = self._create()
                if container is not None:
                    self._start(container)
                    return container
            elif container.status == "running" and not replace:
                return container
            elif container.status != "removing":
                if not replace and self._revive(container):
                    return container
                self._note(container, "removed and made anew")
                remove(self._engine, container)
            if clock.now() > deadline:
                raise ServerStartError(
                    f"container {self._spec.container_name} is being removed by the engine, and has not gone "
                    f"after {REMOVAL_TIMEOUT:g} s\n`docker rm -f -v {self._spec.container_name}` may help",
                    code="container-not-started",
                )
            time.sleep(0.02)

    def _find(self) -> Any:
        from docker.errors import NotFound

        labels = {OWNER: self._spec.owner, CONFIG: self._spec.config}
        for found in self._engine.containers(labels):
            with self._engine.doing("looking at the container"):
                try:
                    return self._engine.client.containers.get(found["Id"])
                except NotFound:
                    continue
        return None

    def _create(self) -> Any:
        from docker.errors import APIError

        with self._engine.doing("creating the container"):
            try:
                self._created = self._engine.client.containers.create(**self._spec.arguments())
            except APIError as error:
                if not name_taken(error):
                    raise start_error(error, self._spec) from error
            else:
                return self._created
        self._free_name(self._spec.container_name)
        return None

    def _free_name(self, name: str) -> None:
        """Remove the container that has the name, unless it has gone meanwhile."""
        from docker.errors import NotFound

        with self._engine.doing("looking at the container"):
            try:
                found: Any = self._engine.client.containers.get(name)
            except NotFound:
                return
        labels: Mapping[str, str] = found.labels
        ours = labels.get(OWNER) == self._spec.owner and labels.get(PROJECT) == self._spec.project
        if ours and labels.get(CONFIG) == self._spec.config:
            return
        if not ours:
            whose = "another user or project of elefast's" if OWNER in labels else "not elefast's"
            raise RefusedError(
                f'a container named "{name}" exists and is {whose} (image {found.attrs["Config"]["Image"]}, '
                f"{found.status}); it is left alone\n"
                f"choose another docker.name (ELEFAST_DOCKER__NAME), or remove it: docker rm -f -v {name}",
                code="foreign-container",
            )
        self._clear_name(found.id, labels)

    def _start(self, container: Any) -> None:
        from docker.errors import APIError

        with self._engine.doing("starting the container"):
            for attempt in range(START_ATTEMPTS):
                try:
                    container.start()
                except APIError as error:
                    # Another program may have got the port that the engine chose; the engine chooses again.
                    if self._spec.port or not port_taken(error) or attempt + 1 == START_ATTEMPTS:
                        raise start_error(error, self._spec) from error
                else:
                    return

    def _revive(self, container: Any) -> bool:
        """Use a container that does not run, if its data can be trusted."""
        from docker.errors import APIError

        if container.status == "created":
            return self._first_start(container)
        if container.status == "paused":
            with self._engine.doing("unpausing the container"):
                try:
                    container.unpause()
                except APIError:
                    return False
            self._note(container, "goes on")
            return True
        if container.status == "exited" and self._has_whole_data(container):
            self._start(container)
            self._note(container, "started again")
            return True
        return False

    def _first_start(self, container: Any) -> bool:
        """Start a container whose creator was killed before it started it, or found its port taken."""
        from docker.errors import APIError

        with self._engine.doing("starting the container"):
            try:
                container.start()
            except APIError:
                return False
        return True

    def _has_whole_data(self, container: Any) -> bool:
        """Whether the server was initialized completely and stopped cleanly, and its data are not in memory.

        Memory is empty after a stop. A server that was interrupted while it was initialized would start, but without
        the rest of the initialization. A server without ``fsync`` may have lost data in a crash of the machine.
        """
        if self._spec.in_memory or container.attrs["State"].get("ExitCode"):
            return False
        from docker.errors import APIError

        with self._engine.doing("reading the container's log"):
            try:
                return INITIALIZED.encode() in container.logs()
            except APIError:  # some log drivers cannot read what they wrote
                return False

    def _note(self, container: Any, what: str) -> None:
        self.notes.append(f"{container.name} was {container.status}: {what}")

    def check_alive(self, container: Any) -> None:
        """Check that the server of a container that does not answer yet may still answer.

        Args:
            container: The container.

        Raises:
            DiedError: The server has ended; the message has the end of its log.
            ServerStartError: The container was removed.
        """
        from docker.errors import NotFound

        with self._engine.doing("waiting for the server"):
            try:
                container.reload()
                if container.status == "paused":
                    container.unpause()
                state: Mapping[str, Any] = container.attrs["State"]
                restarted = container.attrs.get("RestartCount", 0)
                if container.status in ("running", "created") and not restarted:
                    return
                raise died(container.name, state, log_end(container), self._spec)
            except NotFound:
                raise ServerStartError(
                    f"container {container.name} was removed while its server started\nrun the tests again",
                    code="container-not-started",
                ) from None

    def port(self, container: Any) -> int:
        """The published port; it may be another one after each start.

        Args:
            container: The container.

        Raises:
            ServerStartError: The port is not published, because the server has ended or for another reason.
        """
        with self._engine.doing("looking at the container"):
            container.reload()
        ports: Mapping[str, Any] = container.attrs["NetworkSettings"].get("Ports") or {}
        published: list[Mapping[str, str]] = ports.get(PORT) or []
        for one in published:
            # On all addresses, the ports for IPv4 and IPv6 may differ.
            if ":" not in one.get("HostIp", "") or self._spec.bind == "::1":
                return int(one["HostPort"])
        self.check_alive(container)
        raise ServerStartError(
            f"container {container.name} runs, but its port {PORT} is not published\n"
            f"remove it: docker rm -f -v {container.name}",
            code="container-unreachable",
        )


def remove(engine: DockerEngine, container: Any) -> None:
    """Remove a container of elefast's and its volumes, unless it has gone or is being removed.

    Args:
        engine: Where the container is.
        container: The container.

    Raises:
        ServerStartError: The engine refuses.
    """
    from docker.errors import APIError, NotFound

    with engine.doing("removing the container"):
        try:
            container.remove(force=True, v=True)
        except NotFound:
            pass
        except APIError as error:
            if "already in progress" not in str(error):
                raise ServerStartError(
                    f"the engine does not remove container {container.name}\nthe engine says: {error.explanation}\n"
                    f"try it by hand: docker rm -f -v {container.name}",
                    code="container-not-started",
                ) from error

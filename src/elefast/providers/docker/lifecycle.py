"""From whatever state the container is in to one that runs.

Called by the process whose turn it is, so nobody else of ours changes it meanwhile; the engine and people may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from elefast.errors import RefusedError, ServerStartError
from elefast.providers.docker.container import CONFIG, OWNER, PORT, PROJECT, Wanted
from elefast.providers.docker.start_errors import conflict, died, explain_start, log_end, port_taken, start_code
from elefast.runtime import clock

if TYPE_CHECKING:
    from elefast.providers.docker.engine import Engine

__all__ = ["DiedError", "Keeper", "remove"]

GOING_TIMEOUT = 30.0
START_ATTEMPTS = 3
INITIALIZED = "PostgreSQL init process complete"


class DiedError(ServerStartError):
    """The container is there, but its server has ended; waiting for it is in vain."""


class Keeper:
    """Sees that there is one container of this configuration, and that it runs.

    Args:
        engine: Where.
        wanted: The container.
        clear: Called with the id of another container of ours that has the name, to remove it if nobody uses it;
            raises where that cannot be.
    """

    def __init__(self, engine: Engine, wanted: Wanted, clear: Callable[[str, Mapping[str, str]], None]) -> None:
        self._engine = engine
        self._wanted = wanted
        self._clear = clear
        self._made: Any = None
        self.notes: list[str] = []

    @property
    def created(self) -> bool:
        """Whether it was created here and now."""
        return self._made is not None

    def undo(self) -> None:
        """Remove what was created here."""
        made, self._made = self._made, None
        if made is not None:
            remove(self._engine, made)

    def running(self, fresh: bool) -> Any:
        """The container, running.

        Args:
            fresh: What is there was left by processes that are gone, and is not to be used again.

        Raises:
            ServerStartError: It does not start.
            RefusedError: A container that is not ours has its name.
        """
        deadline = clock.now() + GOING_TIMEOUT
        while True:
            container = self._find()
            if container is None:
                container = self._create()
                if container is not None:
                    self._start(container)
                    return container
            elif container.status == "running" and not fresh:
                return container
            elif container.status != "removing":
                if not fresh and self._revive(container):
                    return container
                self._say(container, "removed and made anew")
                remove(self._engine, container)
            if clock.now() > deadline:
                raise ServerStartError(
                    f"container {self._wanted.container_name} is being removed by the engine, and has not gone "
                    f"after {GOING_TIMEOUT:g} s\n`docker rm -f -v {self._wanted.container_name}` may help",
                    code="container-not-started",
                )
            time.sleep(0.02)

    def _find(self) -> Any:
        from docker.errors import NotFound

        labels = {OWNER: self._wanted.owner, CONFIG: self._wanted.config}
        for found in self._engine.containers(labels):
            with self._engine.doing("looking at the container"):
                try:
                    return self._engine.client.containers.get(found["Id"])
                except NotFound:
                    continue
        return None

    def _create(self) -> Any:
        from docker.errors import APIError

        name = self._wanted.container_name
        with self._engine.doing("creating the container"):
            try:
                container = self._engine.client.containers.create(**self._wanted.arguments())
            except APIError as error:
                if not conflict(error):
                    raise ServerStartError(explain_start(error, self._wanted), code=start_code(error)) from error
            else:
                self._made = container
                return container
        self._make_way(name)
        return None

    def _make_way(self, name: str) -> None:
        """Somebody has our name; or had it a moment ago."""
        from docker.errors import NotFound

        with self._engine.doing("looking at the container"):
            try:
                found: Any = self._engine.client.containers.get(name)
            except NotFound:
                return
        labels: Mapping[str, str] = found.labels
        ours = labels.get(OWNER) == self._wanted.owner and labels.get(PROJECT) == self._wanted.project
        if ours and labels.get(CONFIG) == self._wanted.config:
            return
        if not ours:
            whose = "another user or project of elefast's" if OWNER in labels else "not elefast's"
            raise RefusedError(
                f'a container named "{name}" exists and is {whose} (image {found.attrs["Config"]["Image"]}, '
                f"{found.status}); it is left alone\n"
                f"choose another docker.name (ELEFAST_DOCKER__NAME), or remove it: docker rm -f -v {name}",
                code="foreign-container",
            )
        self._clear(found.id, labels)

    def _start(self, container: Any) -> None:
        from docker.errors import APIError

        with self._engine.doing("starting the container"):
            for attempt in range(START_ATTEMPTS):
                try:
                    container.start()
                except APIError as error:
                    # The engine chose a port that another program got a moment earlier; it will choose another one.
                    if self._wanted.port or not port_taken(error) or attempt + 1 == START_ATTEMPTS:
                        raise ServerStartError(explain_start(error, self._wanted), code=start_code(error)) from error
                else:
                    return

    def _revive(self, container: Any) -> bool:
        """Make use of a container that does not run, if its data can be trusted."""
        from docker.errors import APIError

        if container.status == "created":
            return self._first_start(container)
        if container.status == "paused":
            with self._engine.doing("going on with the paused container"):
                try:
                    container.unpause()
                except APIError:
                    return False
            self._say(container, "goes on")
            return True
        if container.status == "exited" and self._has_whole_data(container):
            self._start(container)
            self._say(container, "started again")
            return True
        return False

    def _first_start(self, container: Any) -> bool:
        """Whoever created it did not get to start it, or its port was taken then."""
        from docker.errors import APIError

        with self._engine.doing("starting the container"):
            try:
                container.start()
            except APIError:
                return False
        return True

    def _has_whole_data(self, container: Any) -> bool:
        """Whether it stopped in good order after a complete initialization, on something that keeps data.

        Memory is empty after a stop. A server that was interrupted while it was initialized would start, but
        without what was to come; and one without ``fsync`` may have lost anything in a crash of the machine.
        """
        if self._wanted.in_memory or container.attrs["State"].get("ExitCode"):
            return False
        from docker.errors import APIError

        with self._engine.doing("reading the container's log"):
            try:
                return INITIALIZED.encode() in container.logs()
            except APIError:  # some drivers for logs only take them
                return False

    def _say(self, container: Any, what: str) -> None:
        self.notes.append(f"{container.name} was {container.status}: {what}")

    def look(self, container: Any) -> None:
        """See that a container which does not answer yet still may.

        Raises:
            ServerStartError: It will not; with the end of its log.
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
                raise DiedError(died(container.name, state, log_end(container), self._wanted), code="container-died")
            except NotFound:
                raise ServerStartError(
                    f"container {container.name} was removed while its server started\nrun the tests again",
                    code="container-not-started",
                ) from None

    def port(self, container: Any) -> int:
        """The published port; it may be another one after each start.

        Raises:
            ServerStartError: There is none, because the container has died.
        """
        with self._engine.doing("looking at the container"):
            container.reload()
        ports: Mapping[str, Any] = container.attrs["NetworkSettings"].get("Ports") or {}
        published: list[Mapping[str, str]] = ports.get(PORT) or []
        for one in published:
            # Where it is published on all addresses, the ports for IPv4 and IPv6 may differ.
            if ":" not in one.get("HostIp", "") or self._wanted.bind == "::1":
                return int(one["HostPort"])
        self.look(container)
        raise ServerStartError(
            f"container {container.name} runs, but its port {PORT} is not published\n"
            f"remove it: docker rm -f -v {container.name}",
            code="container-unreachable",
        )


def remove(engine: Engine, container: Any) -> None:
    """Remove a container of ours and its volumes; one that is gone or just going is fine."""
    from docker.errors import APIError, NotFound

    with engine.doing("removing the container"):
        try:
            container.remove(force=True, v=True)
        except NotFound:
            pass
        except APIError as error:
            if "already in progress" not in str(error):
                raise ServerStartError(
                    f"the engine does not remove container {container.name}: {error.explanation}\n"
                    f"try it by hand: docker rm -f -v {container.name}",
                    code="container-not-started",
                ) from error

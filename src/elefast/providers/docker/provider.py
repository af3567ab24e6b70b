"""The provider: finds the engine and the image, shares or starts the container, and gives a lease on it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elefast.errors import ConfigurationError, ElefastError, Problem, ServerUnavailableError
from elefast.providers.docker.cleanup import clear_name, release, sweep
from elefast.providers.docker.container import CONFIG, OWNER, ContainerSpec, owner
from elefast.providers.docker.engine import ANSWER_TIMEOUT, CONTACT_TIMEOUT, connect, over
from elefast.providers.docker.image import Layout
from elefast.providers.docker.lease import DockerLease, Found
from elefast.providers.docker.lifecycle import ContainerLifecycle
from elefast.providers.docker.pull import find_image
from elefast.providers.docker.readiness import Access, await_server
from elefast.providers.docker.sharing import Share, Turn, get_image, take_turn
from elefast.providers.docker.start_errors import DiedError
from elefast.providers.files.directories import places_for
from elefast.providers.protocol import nothing
from elefast.providers.scram import ROUNDS

if TYPE_CHECKING:
    from typing import Literal

    from elefast.providers.docker.engine import DockerEngine

__all__ = ["DockerProvider", "locks_root"]

START_TIMEOUT = 60.0
TURN_TIMEOUT = 180.0
"""Seconds that a slow engine may take for the steps before and after the start."""
OUR_OWN_SETTINGS = frozenset(
    {"config_file", "data_directory", "hba_file", "ident_file", "listen_addresses", "port", "unix_socket_directories"}
)

_log = logging.getLogger("elefast")


class DockerProvider:
    """A server in a container, shared by all processes of this user that ask for the same.

    Args:
        image: One reference, as Docker writes it.
        name: The container's name; empty for one that elefast chooses.
        host: Where the container's port is reached; empty to derive it from the engine.
        port: The port on the engine's machine; 0 for any.
        user: The superuser.
        password: The superuser's.
        reuse: Leave the container running for the next run; otherwise its last lease removes it.
        pull: When to pull the image.
        tmpfs: Whether the data are in memory, or how much memory they may take (``512m``).
        shm_size: The size of ``/dev/shm`` in the container; empty for the engine's default.
        platform: The platform of the image; empty for the engine's own.
        settings: Names and values of server settings, see `server_settings`.
        project: The directory of the project, which shares the container.
        reason: Why this provider was chosen, for the report.
        scram_iterations: Rounds of hashing the password. 1 saves milliseconds with every connection; pg8000 and JDBC
            require PostgreSQL's default of 4096.
        client: A ``docker.DockerClient`` to use, which the caller closes; ``None`` to find the engine.
        env: Variables such as ``DOCKER_HOST``; ``None`` for the environment of this process.
        start_timeout: Seconds that the server may take to start.
        engine_timeout: Seconds that the engine may take for an answer.
    """

    def __init__(
        self,
        *,
        reuse: bool,
        image: str = "postgres:18",
        name: str = "",
        host: str = "",
        port: int = 0,
        user: str = "postgres",
        password: str = "elefast",
        pull: Literal["missing", "always", "never"] = "missing",
        tmpfs: bool | str = True,
        shm_size: str = "256m",
        platform: str = "",
        settings: Mapping[str, str] | None = None,
        project: Path | None = None,
        reason: str = 'provider = "docker"',
        scram_iterations: int = ROUNDS,
        client: Any = None,
        env: Mapping[str, str] | None = None,
        start_timeout: float = START_TIMEOUT,
        engine_timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self._reuse = reuse
        self._image = image
        self._name = name
        self._host = host
        self._port = port
        self._user = user
        self._password = password
        self._pull: Literal["missing", "always", "never"] = pull
        self._tmpfs = tmpfs
        self._shm_size = shm_size
        self._platform = platform
        self._settings = dict(settings or {})
        self._project = os.path.realpath(project or os.getcwd())
        self._reason = reason
        self._iterations = scram_iterations
        self._client = client
        self._env = os.environ if env is None else env
        self._start_timeout = start_timeout
        self._engine_timeout = engine_timeout

    def acquire(self, on_new: Callable[[], None] = nothing) -> DockerLease:
        """Start the container unless it runs, and give a lease on it.

        Args:
            on_new: Called when a container was created, while its server starts.

        Raises:
            MissingDependencyError: The docker extra is not installed.
            ServerUnavailableError: There is no engine or no image, or another configuration uses the name.
            ServerStartError: The container does not start; the message ends with its log.
            ConfigurationError: A setting cannot work.
            RefusedError: A container that is not elefast's has the name.
        """
        if sys.platform == "win32":
            raise ServerUnavailableError(
                'provider = "docker" is not supported on Windows yet\n'
                "set ELEFAST_ENGINE__URL to a server that runs already, or run the tests in WSL",
                code="windows-unsupported",
            )
        self._check_settings()
        engine = self._engine()
        try:
            return self._acquire(engine, on_new)
        except BaseException:
            engine.close()
            raise

    def running(self) -> bool:
        """Whether this container runs. Starts and pulls nothing."""
        if sys.platform == "win32":
            return False
        engine = self._engine()
        try:
            with engine.doing("looking for the image"):
                image: Any = find_image(engine.client, self._image, self._platform)
            if image is None:
                return False
            spec = self._spec(engine, locks_root(), image)
            found = engine.containers({OWNER: spec.owner, CONFIG: spec.config})
            return any(one.get("State") == "running" for one in found)
        finally:
            engine.close()

    def _engine(self) -> DockerEngine:
        if self._client is not None:
            return over(self._client, self._env, host=self._host)
        return connect(
            self._env,
            host=self._host,
            contact_timeout=min(CONTACT_TIMEOUT, self._engine_timeout),
            answer_timeout=self._engine_timeout,
        )

    def _acquire(self, engine: DockerEngine, on_new: Callable[[], None]) -> DockerLease:
        root = locks_root()
        image = get_image(engine, root, self._image, policy=self._pull, platform=self._platform)
        spec = self._spec(engine, root, image)
        share = Share(root, spec.config)
        began = time.time()
        users = share.join()
        try:
            timeout = self._start_timeout + TURN_TIMEOUT
            with take_turn(share, began, what="starts the container", timeout=timeout) as turn:
                found = self._start(engine, spec, share, turn, root, on_new)
            return DockerLease(engine, spec, found, share, users, reason=self._reason)
        except BaseException as error:
            with contextlib.suppress(ElefastError):  # the user needs to see the first error
                release(engine, spec, share, users, may_drop=not isinstance(error, ServerUnavailableError))
            raise

    def _spec(self, engine: DockerEngine, root: str, image: Any) -> ContainerSpec:
        return ContainerSpec(
            owner=owner(root),
            project=self._project,
            engine=engine.address.url,
            layout=Layout.of(image.attrs, self._image),
            name=self._name,
            bind=engine.bind,
            port=self._port,
            user=self._user,
            password=self._password,
            scram_iterations=self._iterations,
            reuse=self._reuse,
            tmpfs=self._tmpfs,
            shm_size=self._shm_size,
            platform=self._platform,
            settings=self._settings,
        )

    def _start(
        self, engine: DockerEngine, spec: ContainerSpec, share: Share, turn: Turn, root: str, on_new: Callable[[], None]
    ) -> Found:
        """A container whose server answers and has the settings."""
        notes = sweep(engine, spec, root)
        lifecycle = ContainerLifecycle(
            engine,
            spec,
            clear_name=lambda identity, labels: clear_name(engine, root, identity, labels, spec.container_name),
        )
        # A container that is not for reuse belongs to processes that run now, unless it is held.
        left = not spec.reuse and not turn.read().get("container") and not share.held
        while True:
            try:
                container = lifecycle.ensure_running(replace=left)
                if lifecycle.created:
                    share.end_hold()
                    on_new()
                access = Access(engine.host, lifecycle.port(container), self._user, self._password, container.name)
                check_alive = functools.partial(lifecycle.check_alive, container)
                version = await_server(access, self._settings, check_alive=check_alive, timeout=self._start_timeout)
                break
            except DiedError:
                # A container that was left may be beyond repair. No process can use it.
                if lifecycle.created:
                    lifecycle.remove_created()
                    raise
                left = True
            except BaseException as error:
                if not isinstance(error, ServerUnavailableError):
                    lifecycle.remove_created()
                raise
        turn.write({"container": container.id})
        notes += lifecycle.notes
        for note in notes:
            _log.warning("docker: %s", note)
        return Found(container.id, access, version, tuple(notes))

    def _check_settings(self) -> None:
        if taken := sorted(OUR_OWN_SETTINGS & self._settings.keys()):
            raise ConfigurationError(
                [
                    Problem(
                        "",
                        f"tuning.settings.{name}",
                        'with provider = "docker" elefast or the image sets this',
                        code="reserved-setting",
                    )
                    for name in taken
                ]
            )


def locks_root() -> str:
    """The directory with the locks of this user's containers."""
    return os.path.join(places_for().servers, "docker")

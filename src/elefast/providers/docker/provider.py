"""What the users of a container run: find the engine and the image, share or start the container, hold it."""

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
from elefast.providers.docker.cleanup import clear_name, leave, sweep
from elefast.providers.docker.container import CONFIG, OWNER, Wanted, owner
from elefast.providers.docker.engine import ANSWER_TIMEOUT, CONTACT_TIMEOUT, connect, over
from elefast.providers.docker.image import Layout
from elefast.providers.docker.lease import DockerLease, Found
from elefast.providers.docker.lifecycle import DiedError, Keeper
from elefast.providers.docker.pull import find_image
from elefast.providers.docker.readiness import Access, await_server
from elefast.providers.docker.sharing import Share, Turn
from elefast.providers.docker.turns import get_image, taking_turns
from elefast.providers.files.directories import places_for
from elefast.providers.protocol import nothing
from elefast.providers.scram import ROUNDS

if TYPE_CHECKING:
    from typing import Literal

    from elefast.providers.docker.engine import Engine

__all__ = ["DockerProvider", "locks_root"]

START_TIMEOUT = 60.0
TURN_TIMEOUT = 180.0
"""What else there may be to do before and after, when the engine is slow."""
OUR_OWN_SETTINGS = frozenset(
    {"config_file", "data_directory", "hba_file", "ident_file", "listen_addresses", "port", "unix_socket_directories"}
)

_log = logging.getLogger("elefast")


class DockerProvider:
    """A server in a container, shared by all processes of this user that ask for the same.

    Args:
        image: One reference, as Docker writes it.
        name: Of the container; empty for one of our choice.
        host: Where the container's port is reached; empty: found from the engine.
        port: On the engine's machine; 0 for any.
        user: The superuser.
        password: The superuser's.
        reuse: Leave the container running for the next run; otherwise it goes with its last lease.
        pull: When to pull the image.
        tmpfs: Data in memory: yes, no, or at most so much (``512m``).
        shm_size: Of ``/dev/shm`` in the container; empty for the engine's default.
        platform: Of the image; empty for the engine's own.
        settings: Server settings, name and value (see `server_settings`).
        project: Its directory; containers are shared within one.
        reason: For the report, why it is this provider.
        scram_iterations: Of the password. 1 saves milliseconds with every connection; pg8000 and JDBC insist on
            4096, PostgreSQL's default.
        client: A ``docker.DockerClient`` to use, which is not closed; None: the engine is found.
        env: ``DOCKER_HOST`` and its kin; the process's environment where None.
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
        """Give a lease on the container that runs, or start it.

        Args:
            on_new: Called when a container has been made, whose server is about to start.

        Raises:
            MissingDependencyError: The docker extra is not installed.
            ServerUnavailableError: There is no engine, no image, or the name is in use with another configuration.
            ServerStartError: The container does not start; the message ends with its log.
            ConfigurationError: A setting cannot work.
            RefusedError: A container that is not ours has the name.
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
        """Whether this container runs already; starts and pulls nothing."""
        if sys.platform == "win32":
            return False
        engine = self._engine()
        try:
            with engine.doing("looking for the image"):
                image: Any = find_image(engine.client, self._image, self._platform)
            if image is None:
                return False
            wanted = self._wanted(engine, locks_root(), image)
            found = engine.containers({OWNER: wanted.owner, CONFIG: wanted.config})
            return any(one.get("State") == "running" for one in found)
        finally:
            engine.close()

    def _engine(self) -> Engine:
        if self._client is not None:
            return over(self._client, self._env, host=self._host)
        return connect(
            self._env,
            host=self._host,
            contact_timeout=min(CONTACT_TIMEOUT, self._engine_timeout),
            answer_timeout=self._engine_timeout,
        )

    def _acquire(self, engine: Engine, on_new: Callable[[], None]) -> DockerLease:
        root = locks_root()
        image = get_image(engine, root, self._image, policy=self._pull, platform=self._platform)
        wanted = self._wanted(engine, root, image)
        share = Share(root, wanted.config)
        began = time.time()
        users = share.join()
        try:
            timeout = self._start_timeout + TURN_TIMEOUT
            with taking_turns(share, began, what="starts the container", timeout=timeout) as turn:
                found = self._ready(engine, wanted, share, turn, root, on_new)
            return DockerLease(engine, wanted, found, share, users, reason=self._reason)
        except BaseException as error:
            with contextlib.suppress(ElefastError):  # the first one is the one to see
                leave(engine, wanted, share, users, may_drop=not isinstance(error, ServerUnavailableError))
            raise

    def _wanted(self, engine: Engine, root: str, image: Any) -> Wanted:
        return Wanted(
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

    def _ready(
        self, engine: Engine, wanted: Wanted, share: Share, turn: Turn, root: str, on_new: Callable[[], None]
    ) -> Found:
        """A container that answers and has the settings."""
        notes = sweep(engine, wanted, root)
        keeper = Keeper(
            engine,
            wanted,
            clear=lambda identity, labels: clear_name(engine, root, identity, labels, wanted.container_name),
        )
        # One that is not reused belongs to the processes of now, or was kept for a look.
        left = not wanted.reuse and not turn.read().get("container") and not share.held
        while True:
            try:
                container = keeper.running(fresh=left)
                if keeper.created:
                    share.let_go()
                    on_new()
                access = Access(engine.host, keeper.port(container), self._user, self._password, container.name)
                look = functools.partial(keeper.look, container)
                version = await_server(access, self._settings, look=look, timeout=self._start_timeout)
                break
            except DiedError:
                # What others have left may be beyond repair; nobody can be using it.
                if keeper.created:
                    keeper.undo()
                    raise
                left = True
            except BaseException as error:
                if not isinstance(error, ServerUnavailableError):
                    keeper.undo()
                raise
        turn.write({"container": container.id})
        notes += keeper.notes
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
    """The directory of the locks of this user's containers."""
    return os.path.join(places_for().servers, "docker")

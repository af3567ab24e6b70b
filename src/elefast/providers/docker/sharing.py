"""How processes share a container: locks in a directory per container, which end with the processes that hold them.

- ``users`` is held shared by every process that uses the container or waits for it. A process that gets the exclusive
  lock knows that no other process uses the container, and may remove it.
- ``turn`` is held by the one process that finds, starts or repairs the container, or pulls the image. The file tells
  the present users which container they share, or why the last start failed.
- ``held`` is not locked. It exists while the container stays for an inspection of databases in it.

The directory exists as long as the container has users or is held.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from elefast import errors
from elefast.errors import ConfigurationError, ElefastError, Problem, ServerStartError
from elefast.providers.docker.container import digest
from elefast.providers.docker.pull import ensure_image, find_image
from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories, locks
from elefast.runtime import clock

if TYPE_CHECKING:
    from typing import Literal

    from elefast.providers.docker.engine import DockerEngine

__all__ = ["Share", "Turn", "get_image", "take_turn"]

USERS = "users"
TURN = "turn"
HELD = "held"
PROCESS = "process"
REMOVAL_TIMEOUT = 180.0
PULL_TIMEOUT = 1800.0
PATIENCE = 10.0
"""Seconds until a wait for another process is logged."""
LONGEST_PAUSE = 0.02

_log = logging.getLogger("elefast")


class Turn:
    """The exclusive right to find, start or repair the container, and what earlier owners of that right wrote.

    Args:
        descriptor: Of the locked file.
        root: The directory of all locks, for messages.
    """

    def __init__(self, descriptor: int, root: str) -> None:
        self._descriptor = descriptor
        self._root = root

    def read(self) -> dict[str, Any]:
        """The values written last, without the process that has the turn; empty for the first of the users."""
        value = _parse(os.pread(self._descriptor, 1 << 20, 0))
        value.pop(PROCESS, None)
        return value

    def write(self, value: dict[str, Any]) -> None:
        """Replace the values.

        Args:
            value: The new ones.

        Raises:
            ServerStartError: The file cannot be written.
        """
        try:
            # In this order, a process that is killed in between does not leave an empty file.
            os.ftruncate(self._descriptor, os.pwrite(self._descriptor, json.dumps(value).encode(), 0))
        except OSError as error:
            raise _unusable(self._root, error) from error


class Share:
    """The locks of one container.

    Args:
        root: The directory of all locks; private to its user.
        config: Names the container.
    """

    def __init__(self, root: str, config: str) -> None:
        self._root = root
        self.directory = os.path.join(root, config)

    def join(self) -> int:
        """Become a user of the container. Wait while another process removes it.

        Returns:
            The descriptor that holds the shared lock.

        Raises:
            ServerStartError: The wait took too long, or the locks cannot be used.
        """
        wait = _Wait(self._path(USERS), "removes the container", REMOVAL_TIMEOUT)
        with self._usable():
            while True:
                self._make_root()
                try:
                    users = self._join()
                except FileNotFoundError:
                    users = None
                if users is not None:
                    return users
                wait.pause()

    def _join(self) -> int | None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
        first = locks.take(self._path(USERS), exclusive=True)
        if first is None:
            return locks.take(self._path(USERS), exclusive=False)
        # The processes that wrote the values have ended.
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self._path(TURN), 0)
        return self._downgrade(first)

    def _make_root(self) -> None:
        directories.root(os.path.dirname(self._root))
        directories.root(self._root)

    @contextmanager
    def _usable(self) -> Generator[None]:
        try:
            yield
        except ProviderFailure as error:
            kind: type[ElefastError] = getattr(errors, error.kind, ServerStartError)
            raise kind(error.message, code=error.code) from None
        except OSError as error:
            raise _unusable(self._root, error) from error

    def _downgrade(self, exclusive: int) -> int | None:
        """Turn the exclusive lock into a shared one; ``None`` if another process got the lock in between."""
        import fcntl

        # The kernel releases the exclusive lock before it grants the shared one.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(exclusive, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if locks.same_file(exclusive, self._path(USERS)):
                return exclusive
        _unlock(exclusive)
        return None

    @contextmanager
    def turn(self, what: str, timeout: float) -> Generator[Turn]:
        """Wait for the turn. Only users of the container may, so that no process removes the directory meanwhile.

        Args:
            what: What the turn is for: "starts the container".
            timeout: Seconds to wait at most.

        Raises:
            ServerStartError: The wait took too long, or the locks cannot be used.
        """
        wait = _Wait(self._path(TURN), what, timeout)
        with self._usable():
            while (descriptor := locks.take(self._path(TURN), exclusive=True)) is None:
                wait.pause()
        try:
            turn = Turn(descriptor, self._root)
            turn.write({**turn.read(), PROCESS: os.getpid()})
            yield turn
        finally:
            _unlock(descriptor)

    @contextmanager
    def alone(self, users: int = -1) -> Generator[bool]:
        """Lock the container for this process alone; the directory is removed at the end.

        Args:
            users: This process's own lock, which is released in any case; -1 for none.

        Returns:
            Whether no other process uses the container, which is then true until the end of the block.

        Raises:
            ServerStartError: The locks cannot be used.
        """
        if users >= 0:
            # First, so that of two processes that leave at the same time one finds itself alone.
            _unlock(users)
        with self._usable():
            # A restart of the machine may remove the directory, while the containers stay.
            self._make_root()
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.directory, 0o700)
                descriptor = locks.take(self._path(USERS), exclusive=True)
            except FileNotFoundError:
                descriptor = None
        if descriptor is None:
            yield False
            return
        try:
            yield True
            self._clear()
        finally:
            _unlock(descriptor)

    def _clear(self) -> None:
        for name in (TURN, USERS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))
        directories.remove_if_empty(self.directory)

    @property
    def held(self) -> bool:
        """Whether the container stays for an inspection."""
        return os.path.exists(self._path(HELD))

    def hold(self) -> None:
        """Let the container stay until `end_hold`. Only a user may call this."""
        with open(self._path(HELD), "a", encoding="ascii"):
            pass

    def end_hold(self) -> None:
        """Let the container go with its last user."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(HELD))

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)


@contextmanager
def take_turn(share: Share, began: float, *, what: str, timeout: float) -> Generator[Turn]:
    """Wait for the turn. An error reaches all processes that waited for it; a process that comes later tries again.

    Args:
        share: The locks, of which this process is a user.
        began: When this process came, in seconds since 1970.
        what: What the turn is for: "starts the container".
        timeout: Seconds to wait at most.

    Raises:
        ElefastError: The error of the process that had the turn, or that of the block.
    """
    with share.turn(what, timeout) as turn:
        written = turn.read()
        if "failed" in written and written["at"] >= began:
            raise _as_error(written["failed"])
        try:
            yield turn
        except ElefastError as error:
            # The other values stay, because processes that came earlier may use the container.
            with contextlib.suppress(ServerStartError):  # the user needs to see the first error
                turn.write({**turn.read(), "failed": _as_values(error), "at": time.time()})
            raise


def get_image(
    engine: DockerEngine, root: str, reference: str, *, policy: Literal["missing", "always", "never"], platform: str
) -> Any:
    """The image. If the engine does not have it, one of all processes that want it pulls it, and the others wait.

    Args:
        engine: The engine that needs the image.
        root: The directory of all locks.
        reference: As Docker writes it.
        policy: See `ensure_image`.
        platform: Such as ``linux/arm64``; empty for the engine's own.

    Raises:
        ConfigurationError: The image does not exist, or the reference is invalid.
        ServerUnavailableError: The engine cannot get the image now.
    """
    if policy != "always":
        with engine.doing("looking for the image"):
            here: Any = find_image(engine.client, reference, platform)
        if here is not None:
            return here
    began = time.time()
    share = Share(root, digest("image", engine.address.url, reference, platform))
    users = share.join()
    try:
        with (
            take_turn(share, began, what=f"gets image {reference}", timeout=PULL_TIMEOUT) as turn,
            engine.doing("getting the image"),
        ):
            pulled = turn.read().get("pulled", 0.0) >= began
            image: Any = ensure_image(
                engine.client, reference, policy="missing" if pulled else policy, platform=platform
            )
            turn.write({"pulled": time.time()})
            return image
    finally:
        with share.alone(users):
            pass  # removes the directory of the locks


def _as_values(error: ElefastError) -> dict[str, Any]:
    if isinstance(error, ConfigurationError):
        return {
            "problems": [[one.origin, one.key, one.message, one.code] for one in error.problems],
            "hint": error.hint,
        }
    return {"kind": type(error).__name__, "message": str(error), "code": error.code}


def _as_error(values: Mapping[str, Any]) -> ElefastError:
    """The error of another process: ``kind`` and ``message``, or the ``problems`` of a configuration."""
    if "problems" in values:
        return ConfigurationError([Problem(*one) for one in values["problems"]], values["hint"])
    kind: type[ElefastError] = getattr(errors, values["kind"], ServerStartError)
    return kind(values["message"], code=values.get("code", ""))


def _unlock(descriptor: int) -> None:
    """Unlock explicitly: a child that C code forked may have the descriptor as well."""
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _unusable(root: str, error: OSError) -> ServerStartError:
    return ServerStartError(
        f"the locks of containers in {root} cannot be used: {error}\n"
        "see that this directory can be written, and that there is space",
        code="locks-unusable",
    )


def _parse(text: bytes) -> dict[str, Any]:
    try:
        # The end of a longer value may follow, if its writer was killed.
        value: dict[str, Any] | list[Any] | str | float | None = json.JSONDecoder().raw_decode(text.decode())[0]
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class _Wait:
    """A wait for the lock of another process. It is logged, and it has an end, because that process may hang.

    Args:
        path: Of the lock.
        what: What the other process does: "starts the container".
        timeout: Seconds.
    """

    def __init__(self, path: str, what: str, timeout: float) -> None:
        self._path = path
        self._what = what
        self._timeout = timeout
        self._began = clock.now()
        self._pause = 0.001
        self._logged = False

    def pause(self) -> None:
        """Wait a little.

        Raises:
            ServerStartError: The time is over.
        """
        waited = clock.now() - self._began
        if waited > self._timeout:
            raise ServerStartError(
                f"waited {self._timeout:g} s for {self._other()}, which {self._what}\n"
                "see whether it was stopped or hangs, and end it; then run the tests again",
                code="other-process-hangs",
            )
        if waited > PATIENCE and not self._logged:
            self._logged = True
            _log.warning("docker: waiting for %s, which %s", self._other(), self._what)
        time.sleep(self._pause)
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE)

    def _other(self) -> str:
        try:
            with open(self._path, "rb") as file:
                process = _parse(file.read()).get(PROCESS)
        except OSError:
            process = None
        return f"process {process}" if process else "another process"

"""Who uses a container: locks in a directory of its own, which vanish with the processes that hold them.

- ``users`` is held shared by every process that uses the container or waits for it. Whoever gets it exclusively
  knows that nobody does, and may remove the container.
- ``turn`` is held by the one process that is about to find, start or repair it. What is written there is about
  the users of now: the container that they share, or why the last start failed.
- ``held`` is no lock: the container has something for a look, and stays.

The directory is there as long as the container has users, or is held.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from elefast import errors
from elefast.errors import ElefastError, ServerStartError
from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories, locks
from elefast.runtime import clock

__all__ = ["Share", "Turn"]

USERS = "users"
TURN = "turn"
HELD = "held"
PROCESS = "process"
REMOVAL_TIMEOUT = 180.0
PATIENCE = 10.0
LONGEST_PAUSE = 0.02

_log = logging.getLogger("elefast")


class Turn:
    """The right to find, start or repair the container; and what was written by those who had it before.

    Args:
        descriptor: Of the locked file.
        root: The directory of all locks, for messages.
    """

    def __init__(self, descriptor: int, root: str) -> None:
        self._descriptor = descriptor
        self._root = root

    def read(self) -> dict[str, Any]:
        """What was written last, besides which process has the turn; empty for the first of the users."""
        value = _parse(os.pread(self._descriptor, 1 << 20, 0))
        value.pop(PROCESS, None)
        return value

    def write(self, value: dict[str, Any]) -> None:
        """Replace what is written."""
        try:
            # In this order, so that somebody who is killed in between does not leave an empty file.
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
        """Become a user, and wait while somebody removes the container; gives the descriptor of the lock.

        Raises:
            ServerStartError: That took too long, or the locks cannot be used.
        """
        waiting = _Waiting(self._path(USERS), "removes the container", REMOVAL_TIMEOUT)
        with self._usable():
            while True:
                self._make_root()
                try:
                    users = self._join()
                except FileNotFoundError:
                    users = None
                if users is not None:
                    return users
                waiting.pause()

    def _join(self) -> int | None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
        first = locks.take(self._path(USERS), exclusive=True)
        if first is None:
            return locks.take(self._path(USERS), exclusive=False)
        # Those who wrote it are gone, whatever became of the container.
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self._path(TURN), 0)
        return self._shared(first)

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

    def _shared(self, exclusive: int) -> int | None:
        import fcntl

        # The kernel lets go for a moment; somebody who removes may come in between.
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(exclusive, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if locks.same_file(exclusive, self._path(USERS)):
                return exclusive
        _let_go(exclusive)
        return None

    @contextmanager
    def turn(self, what: str, timeout: float) -> Generator[Turn]:
        """Wait for the turn. Only users may, so that nobody removes the directory meanwhile.

        Args:
            what: It is for: "starts the container".
            timeout: Seconds that we wait at most.

        Raises:
            ServerStartError: That took too long, or the locks cannot be used.
        """
        waiting = _Waiting(self._path(TURN), what, timeout)
        with self._usable():
            while (descriptor := locks.take(self._path(TURN), exclusive=True)) is None:
                waiting.pause()
        try:
            turn = Turn(descriptor, self._root)
            turn.write({**turn.read(), PROCESS: os.getpid()})
            yield turn
        finally:
            _let_go(descriptor)

    @contextmanager
    def alone(self, users: int = -1) -> Generator[bool]:
        """Whether nobody else uses it, and nobody does while this lasts; afterwards the directory is gone.

        Args:
            users: Our own hold, which is given up in any case.
        """
        if users >= 0:
            # Of two who leave at once, the last to let go finds itself alone.
            _let_go(users)
        with self._usable():
            # After a restart of the machine it may have gone, while the containers have not.
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
            _let_go(descriptor)

    def _clear(self) -> None:
        for name in (TURN, USERS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))
        directories.remove_if_empty(self.directory)

    @property
    def held(self) -> bool:
        """Whether there is something to look at."""
        return os.path.exists(self._path(HELD))

    def hold(self) -> None:
        """Keep the container until `let_go`; called by a user."""
        with open(self._path(HELD), "a", encoding="ascii"):
            pass

    def let_go(self) -> None:
        """There is nothing to look at, or not any more."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(HELD))

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)


def _let_go(descriptor: int) -> None:
    """Give a lock back explicitly: a child that was forked without Python's knowledge has the descriptor, too."""
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
        # Behind it there may be the end of a longer one, whose writer was killed.
        value: dict[str, Any] | list[Any] | str | float | None = json.JSONDecoder().raw_decode(text.decode())[0]
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class _Waiting:
    """For the lock of another process, which may have been stopped, or hang: not in silence, and not for ever.

    Args:
        path: Of the lock.
        what: The other process does meanwhile.
        timeout: Seconds.
    """

    def __init__(self, path: str, what: str, timeout: float) -> None:
        self._path = path
        self._what = what
        self._timeout = timeout
        self._began = clock.now()
        self._pause = 0.001
        self._told = False

    def pause(self) -> None:
        """Wait a little.

        Raises:
            ServerStartError: It was too long.
        """
        waited = clock.now() - self._began
        if waited > self._timeout:
            raise ServerStartError(
                f"waited {self._timeout:g} s for {self._other()}, which {self._what}\n"
                "see whether it was stopped or hangs, and end it; then run the tests again",
                code="other-process-hangs",
            )
        if waited > PATIENCE and not self._told:
            self._told = True
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

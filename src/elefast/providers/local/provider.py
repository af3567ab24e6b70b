"""The provider: finds or starts the supervisor of a server, takes a shared lock, and gives a lease."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elefast import errors
from elefast.errors import ConfigurationError, Problem, ServerStartError, ServerUnavailableError
from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories, locks
from elefast.providers.local import cleanup, provision, state_file
from elefast.providers.local.lease import LocalLease
from elefast.providers.local.processes import namespace
from elefast.providers.local.supervisor_client import dismiss, prove, start_supervisor
from elefast.providers.protocol import nothing
from elefast.runtime import clock

if TYPE_CHECKING:
    from elefast.providers.local.binaries import Binaries

__all__ = ["LocalProvider"]

FORMAT = 1
"""Part of every identity; raised when the layout of a server's directory changes."""
STARTS_TO_TRY = 5
INITDB_TIMEOUT = 120.0
STOP_TIMEOUT = 40.0
OUR_OWN_SETTINGS = frozenset(
    {
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "ident_file",
        "listen_addresses",
        "log_destination",
        "logging_collector",
        "port",
        "unix_socket_directories",
        "unix_socket_permissions",
    }
)

_log = logging.getLogger("elefast")


class _ElsewhereError(Exception):
    """The running server has its port in another network namespace."""


class LocalProvider:
    """A server of elefast's own, shared by all processes of this user that ask for the same.

    Args:
        bin_dir: The directory of ``postgres`` and ``initdb``; empty to search for one.
        data_dir: The directory of the data; empty for memory if there is room, or else the user's cache.
        run_as: The user that the server runs as if root starts it; empty for ``postgres`` or ``nobody``.
        reuse: Keep the data directory for the next run; otherwise nothing is left after the last lease.
        settings: Names and values of server settings, see `server_settings`.
        requirement: The versions that fit, such as ``>=14``.
        extensions: The extensions that the project needs; an installation that has them is preferred.
        project: The directory to which relative paths are relative.
        reason: Why this provider was chosen, for the report.
        scram_iterations: Rounds of hashing the superuser's password. 1 saves milliseconds with every connection and
            is safe, because the password is random; pg8000 and JDBC require 4096.
        start_timeout: Seconds that the server may take to start.
        root: Put everything below this directory; for tests.
    """

    def __init__(
        self,
        *,
        reuse: bool,
        bin_dir: str | os.PathLike[str] = "",
        data_dir: str | os.PathLike[str] = "",
        run_as: str = "",
        settings: Mapping[str, str] | None = None,
        requirement: str = "",
        extensions: Sequence[str] = (),
        project: Path | None = None,
        reason: str = 'provider = "local"',
        scram_iterations: int = 1,
        start_timeout: float = 60.0,
        root: Path | None = None,
    ) -> None:
        self._reuse = reuse
        self._bin_dir = _absolute(bin_dir, project)
        self._data_dir = _absolute(data_dir, project)
        self._run_as = run_as
        self._settings = dict(settings or {})
        self._requirement = requirement
        self._extensions = tuple(extensions)
        self._reason = reason
        self._iterations = scram_iterations
        self._start_timeout = start_timeout
        self._root = root

    def acquire(self, on_new: Callable[[], None] = nothing) -> LocalLease:
        """Start the server unless it runs, and give a lease on it.

        Args:
            on_new: Called while its data directory is being made, which takes some tenths of a second.

        Raises:
            ServerUnavailableError: There is no PostgreSQL here, or the running server has another configuration.
            ServerStartError: It does not start; the message ends with its log.
            ConfigurationError: A setting cannot work.
            RefusedError: A directory is not elefast's.
        """
        if sys.platform == "win32":
            raise ServerUnavailableError(
                'provider = "local" is not supported on Windows yet\n'
                "set ELEFAST_ENGINE__URL to a server that runs already, or run the tests in WSL",
                code="windows-unsupported",
            )
        self._check_settings()
        from elefast.providers.local.binaries import find

        binaries = find(self._bin_dir, self._requirement, self._extensions)
        try:
            places = directories.places_for(self._root)
            try:
                return self._acquire(self._job(binaries, places), binaries, places, on_new)
            except _ElsewhereError:
                job = self._job(binaries, places, apart=namespace("net"))
                return self._acquire(job, binaries, places, on_new)
        except ProviderFailure as failure:
            raise _as_error(failure) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ServerStartError(
                    directories.full_disk(str(error.filename or "/")), code="local-disk-full"
                ) from error
            raise ServerStartError(
                f"the local server cannot be set up: {error}\nsee that this user may write there, and run again",
                code="local-start-failed",
            ) from error

    def running(self) -> bool:
        """Whether this server runs. Starts nothing."""
        if sys.platform == "win32":
            return False
        from elefast.providers.local.binaries import find

        binaries, places = find(self._bin_dir, self._requirement, self._extensions), directories.places_for(self._root)
        for apart in ("", namespace("net")):
            directory = self._job(binaries, places, apart)["server"]
            described = state_file.read(directory)
            if described.get("status") == "ready" and not state_file.elsewhere(described):
                return locks.is_held(os.path.join(directory, state_file.SUPERVISOR))
        return False

    def _acquire(
        self, job: Mapping[str, Any], binaries: Binaries, places: directories.Places, on_new: Callable[[], None]
    ) -> LocalLease:
        try:
            return self._join(job, binaries, places, on_new)
        except BaseException:
            # After an interrupt there may be no supervisor that would remove the directory.
            with suppress(OSError):
                cleanup.sweep_server(places, job["identity"])
            raise

    def _join(
        self, job: Mapping[str, Any], binaries: Binaries, places: directories.Places, on_new: Callable[[], None]
    ) -> LocalLease:
        """Become a user of the server, and wait until it is ready."""
        directory: str = job["server"]
        deadline = clock.now() + self._start_timeout + INITDB_TIMEOUT + STOP_TIMEOUT
        while clock.now() < deadline:
            try:
                directories.root(places.servers)
                directories.claim(directory)
                users = locks.take(os.path.join(directory, state_file.USERS), exclusive=False)
            except FileNotFoundError:
                users = None  # the supervisor removes the directory at the same time
            if users is None:
                time.sleep(0.003)  # the supervisor is about to end
                continue
            try:
                os.utime(users)
                described = self._await_ready(users, directory, job, deadline, on_new)
                if described is not None:
                    if state_file.elsewhere(described):
                        self._apart(directory)
                    self._check(described, binaries, job)
                    lease = LocalLease(users, directory, described, self._reason)
                    users = -1
                    return lease
            finally:
                if users >= 0:
                    os.close(users)
        raise ServerStartError(
            f"the local server in {directory} did not become ready\n"
            f"look at {os.path.join(directory, state_file.LOG)}, or remove {directory}",
            code="local-start-failed",
        )

    def _await_ready(
        self, users: int, directory: str, job: Mapping[str, Any], deadline: float, on_new: Callable[[], None]
    ) -> dict[str, Any] | None:
        """Start a supervisor unless there is one, and wait until its server runs.

        Called with the shared lock of `users`, so that the supervisor does not end by itself meanwhile.

        Returns:
            What the supervisor wrote about the server, or ``None`` if the caller has to try again.
        """
        supervisor = os.path.join(directory, state_file.SUPERVISOR)
        began = time.time()
        starts = 0
        started = False
        while clock.now() < deadline:
            if not locks.is_held(supervisor):
                if not locks.same_file(users, os.path.join(directory, state_file.USERS)):
                    return None
                if starts == STARTS_TO_TRY:
                    raise ServerStartError(
                        f"the supervisor of the local server in {directory} ended {starts} times without a reason\n"
                        f"look at {os.path.join(directory, state_file.LOG)}, or remove {directory}",
                        code="local-start-failed",
                    )
                started = start_supervisor(directory, job)
                starts += started
                if started and not any(map(os.path.lexists, provision.homes(job))):
                    on_new()
                if not started:
                    time.sleep(0.003)
                continue
            dismissed = True
            # The file is about the present server only if the supervisor lives.
            described = state_file.read(directory)
            status = described.get("status")
            if status == "failed":
                # All processes that waited for this start get the error. A process that came later tries again.
                if described["at"] >= began:
                    code = str(described.get("code", "local-start-failed"))
                    raise ProviderFailure(described["kind"], described["message"], code=code)
                dismissed = dismiss(supervisor, described)
            if status == "ready":
                if started and not self._proven(directory, described):
                    continue
                return described
            if status == "died":
                _log.warning("local server: it had ended by itself; the end of its log:\n%s", described["message"])
                dismissed = dismiss(supervisor, described)
            if status in ("failed", "died", "stopping"):
                # This process cannot stop the supervisor of another container, which ends after its users. So it stops
                # being a user for a moment.
                patience = deadline if dismissed else min(deadline, clock.now() + 0.2)
                if not dismissed:
                    import fcntl

                    fcntl.flock(users, fcntl.LOCK_UN)
                while locks.is_held(supervisor) and clock.now() < patience:
                    time.sleep(0.003)
                return None
            time.sleep(0.002)
        return None

    def _apart(self, directory: str) -> None:
        """Give up a server in another container, whose port this process cannot reach."""
        if self._data_dir:
            raise ServerUnavailableError(
                f"local.data_dir: the server on {self._data_dir} runs in another network namespace, such as another "
                f"container's ({directory})\nuse another local.data_dir here",
                code="local-server-in-use",
            )
        raise _ElsewhereError

    def _proven(self, directory: str, described: Mapping[str, Any]) -> bool:
        """Connect to the server that this process started; false if it has ended."""
        try:
            prove(described, self._start_timeout)
        except ServerStartError:
            time.sleep(0.05)  # until its supervisor notices
            if state_file.read(directory) == described and locks.is_held(
                os.path.join(directory, state_file.SUPERVISOR)
            ):
                raise
            return False
        for note in described["notes"]:
            _log.warning("local server: %s", note)
        return True

    def _job(self, binaries: Binaries, places: directories.Places, apart: str = "") -> dict[str, Any]:
        """The job of a supervisor.

        Args:
            binaries: The installation.
            places: The roots.
            apart: The network namespace, if a server runs in another one.
        """
        uid = os.geteuid()
        config = _digest(
            [
                FORMAT,
                uid,
                self._run_as if uid == 0 else "",
                binaries.directory,
                sorted(self._settings.items()),
                self._iterations,
                self._data_dir,
                self._reuse,
                *([apart] if apart else []),
            ]
        )
        # A named data directory can have only one server, even with different configurations.
        identity = _digest([FORMAT, uid, self._data_dir, self._reuse]) if self._data_dir else config
        cache = _digest([FORMAT, binaries.directory, binaries.version, self._iterations])
        return {
            "server": os.path.join(places.servers, identity),
            "memory": places.memory,
            "disk": places.disk,
            "identity": identity,
            "config": config,
            "cache": os.path.join(places.disk, f"initdb-{binaries.major}-{cache}"),
            "reuse": self._reuse,
            "data_dir": self._data_dir,
            "run_as": self._run_as,
            "bin": binaries.directory,
            "origin": binaries.origin,
            "version": binaries.version,
            "major": binaries.major,
            "settings": self._settings,
            "iterations": self._iterations,
            "start_timeout": self._start_timeout,
        }

    def _check_settings(self) -> None:
        if taken := sorted(OUR_OWN_SETTINGS & self._settings.keys()):
            raise ConfigurationError(
                [
                    Problem(
                        "",
                        f"tuning.settings.{name}",
                        'with provider = "local" elefast sets this itself',
                        code="reserved-setting",
                    )
                    for name in taken
                ]
            )

    def _check(self, described: Mapping[str, Any], binaries: Binaries, job: Mapping[str, Any]) -> None:
        """Raise an error if the running server has another configuration or version."""
        if described["config"] != job["config"]:
            raise ServerUnavailableError(
                f"local.data_dir: a server with another configuration runs on {self._data_dir}\n"
                "wait until its last user has gone, or use another local.data_dir",
                code="local-server-in-use",
            )
        if described["major"] != binaries.major:
            raise ServerUnavailableError(
                f"a server of PostgreSQL {described['version']} still runs from {binaries.directory}, "
                f"which has PostgreSQL {binaries.version} by now\n"
                "wait until its last user has gone, or stop it (elefast down)",
                code="local-server-in-use",
            )


def _as_error(failure: ProviderFailure) -> errors.ElefastError:
    if failure.kind == "ConfigurationError":
        key, _, message = failure.message.partition(": ")
        return ConfigurationError([Problem("", key, message, code=failure.code)])
    kind: type[errors.ElefastError] = getattr(errors, failure.kind, ServerStartError)
    return kind(failure.message, code=failure.code)


def _absolute(path: str | os.PathLike[str], project: Path | None) -> str:
    text = os.fspath(path)
    if not text:
        return ""
    return os.path.realpath(os.path.join(project or "", os.path.expanduser(text)))


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

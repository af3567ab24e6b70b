"""One run of ``postgres``: starts it, waits until it is ready, and stops it.

This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories, locks
from elefast.providers.local.processes import postmaster_file, stop_orphans
from elefast.runtime import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from elefast.providers.local.account import Account

__all__ = ["ADDRESS", "Server", "log_end"]

ADDRESS = "127.0.0.1"
# Some systems limit the path of a Unix socket to about 104 bytes, including the file's name.
LONGEST_SOCKET_DIRECTORY = 100 - len("/.s.PGSQL.65535")
PORTS_TO_TRY = 20
# PostgreSQL 14 does not start with it on other systems than Linux.
_NOT_HERE: tuple[str, ...] = () if sys.platform == "linux" else ("client_connection_check_interval",)
KILLS_TO_FORGIVE = 3


class Server:
    """A server on one data directory.

    Args:
        binaries: The directory of ``postgres``.
        data: The data directory.
        socket: A private directory for its Unix socket; not used if its path is too long.
        log: The file for its output.
        account: The user that it runs as.
        settings: Names and values of its settings.
        serving: The path of the lock that all processes of the server inherit.
    """

    def __init__(
        self,
        *,
        binaries: str,
        data: str,
        socket: str,
        log: str,
        account: Account,
        settings: Mapping[str, str],
        serving: str,
    ) -> None:
        self.binaries = binaries
        self.data = data
        self.socket = socket if len(os.fsencode(socket)) <= LONGEST_SOCKET_DIRECTORY else ""
        self.log = log
        self.account = account
        self.settings = settings
        self.serving = serving
        self.port = 0
        self.given_up = False
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, port: int, timeout: float) -> None:
        """Start the server and wait until it accepts connections.

        Args:
            port: The port to try first, so that a restarted server has the same one; 0 for any.
            timeout: Seconds.

        Raises:
            ProviderFailure: The server did not start; the message ends with the end of its log.
        """
        deadline = clock.now() + timeout
        for attempt in range(PORTS_TO_TRY):
            self.port = port if port and not attempt else _free_port()
            self._spawn(deadline)
            if self._is_ready(deadline):
                return
            text = log_end(self.log)
            if self._was_killed() and attempt < KILLS_TO_FORGIVE:
                continue
            # Another program may take the port before the server does.
            if "Address already in use" in text:
                continue
            # Backends of a killed postmaster need a moment until they end.
            if "pre-existing shared memory block" in text and clock.now() < deadline:
                stop_orphans(self.data)
                time.sleep(0.05)
                continue
            break
        text = log_end(self.log)
        hint = ""
        full = os.strerror(errno.ENOSPC) in text
        if full:
            hint = "\n" + directories.full_disk("/dev/shm" if "shared memory segment" in text else self.data)
        raise ProviderFailure(
            "ServerStartError",
            f"the PostgreSQL server in {self.binaries} does not start on {self.data}; "
            f"the end of its log ({self.log}):\n{text or '  (nothing)'}{hint}",
            code="local-disk-full" if full else "local-start-failed",
        )

    def stop(self, *, orderly: bool) -> bool:
        """Stop the server and all of its processes.

        Args:
            orderly: Write everything out, because the data will be used again.

        Returns:
            Whether it stopped cleanly.
        """
        process = self.process
        if process is None:
            return True
        for number, patience in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            if number == signal.SIGINT and not orderly:
                continue
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        if self._left():
            stop_orphans(self.data)
        return process.returncode == 0

    def _left(self) -> bool:
        """Whether processes of the server live on after the postmaster."""
        try:
            return locks.is_held(self.serving)
        except OSError:
            return False  # the directory was removed

    def _lock(self, deadline: float) -> int:
        while (lock := locks.take(self.serving, exclusive=True)) is None:
            if clock.now() > deadline:
                raise ProviderFailure(
                    "ServerUnavailableError",
                    f"another server still uses {self.data}\nend it, or set local.data_dir to another directory",
                    code="local-server-in-use",
                )
            time.sleep(0.002)
        return lock

    def _spawn(self, deadline: float) -> None:
        # PostgreSQL takes the lock file of a killed server for that of a living one if its process id is in use. No
        # other server uses this directory, so the lock files can be removed.
        for name in os.listdir(self.socket) if self.socket else ():
            if name.startswith(".s.PGSQL."):
                os.unlink(os.path.join(self.socket, name))
        own = {
            "port": str(self.port),
            "listen_addresses": ADDRESS,
            "unix_socket_directories": self.socket,
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "log_destination": "stderr",
            # Files in the data directory are removed with it, even after a kill. Besides, a container's /dev/shm may be
            # tiny.
            "dynamic_shared_memory_type": "mmap",
        }
        command = [os.path.join(self.binaries, "postgres"), "-D", self.data]
        for name, value in (own | dict(self.settings)).items():
            if name not in _NOT_HERE:
                command += ["-c", f"{name}={value}"]
        lock = self._lock(deadline)
        try:
            with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as log:
                self.process = self.account.spawn(command, output=log.fileno(), inherited=lock)
        finally:
            os.close(lock)  # the server has its own copy

    def _was_killed(self) -> bool:
        """Whether another process killed it, or the kernel for lack of memory, and not `stop` after the deadline."""
        return not self.given_up and self.process is not None and (self.process.returncode or 0) < 0

    def _is_ready(self, deadline: float) -> bool:
        process = self.process
        assert process is not None
        while process.poll() is None:
            lines = postmaster_file(self.data)
            if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7] == "ready":
                return True
            if clock.now() > deadline:
                self.given_up = True
                self.stop(orderly=False)
                return False
            time.sleep(0.001)
        return False


def log_end(path: str, lines: int = 20) -> str:
    """The last lines of a log, indented."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port

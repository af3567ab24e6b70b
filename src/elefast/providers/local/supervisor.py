"""The supervisor of a local server: starts it, notices that it died or has no users any more, and stops it.

A user starts `main` in a new interpreter with a job on its standard input. The process ends with an exit status when a
child of it has the supervisor's lock, or when another supervisor has that lock. The child belongs to no terminal. If
the user is killed, even during the start, the child finishes the start, notices that it has no users, and stops the
server. Only the supervisor changes the directory of the server.

The child waits for three events: the exclusive lock of ``users``, which means that there are no users left, the end of
the server, and SIGTERM. It imports only the modules that it needs, because every cold start waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import threading
import time

from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories, locks
from elefast.providers.local import cluster, state_file
from elefast.providers.local.processes import namespace, stop_orphans
from elefast.providers.local.provision import Provisioner, clear_rubbish
from elefast.providers.local.server import Server, log_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from elefast.providers.local.account import Account

__all__ = ["BUSY", "Supervisor", "main"]

BUSY = 75
"""Exit status: the server has another supervisor, or its directory was replaced, so the user has to try again."""


class Supervisor:
    """Runs one server, from the preparation of its directory to its end.

    Args:
        job: The values that `LocalProvider` wrote: ``server`` (the directory), ``memory``, ``disk``, ``data_dir``,
            ``reuse``, ``run_as``, ``bin``, ``origin``, ``version``, ``major``, ``settings``,
            ``iterations``, ``cache``, ``identity``, ``config``, ``start_timeout``, ``port`` (of the
            server's last run).
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.port: int = job["port"]
        self.directory: str = job["server"]
        self.provisioner = Provisioner(job)
        self.cluster: cluster.Cluster | None = None
        self.server: Server | None = None
        import queue

        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self) -> None:
        """Start the server, watch it, and stop it."""
        signal.signal(signal.SIGTERM, self._on_signal)
        threading.Thread(target=self._await_last_user, daemon=True).start()
        started = self._start_server()
        if started:
            threading.Thread(target=self._await_server, daemon=True).start()
            self._housekeeping()
        while self.events.get() == "died":
            self._report("died", message=log_end(self._path(state_file.LOG)))
            assert self.cluster is not None
            stop_orphans(self.cluster.data)
        self._report("stopping")
        self._end()

    def _start_server(self) -> bool:
        try:
            clear_rubbish(self.directory)
            account, binaries = self.provisioner.find_account()
            self.cluster = self.provisioner.find_cluster(binaries, account)
            self.server = self._start(binaries, account)
        except ProviderFailure as error:
            self._report("failed", kind=error.kind, message=error.message, code=error.code)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            code = "local-disk-full" if full else "local-start-failed"
            self._report("failed", kind="ServerStartError", message=self._explain(error), code=code)
        except Exception:
            import traceback

            self._report("failed", kind="ServerStartError", message=traceback.format_exc(), code="local-start-failed")
        else:
            self._report(
                "ready",
                user=cluster.SUPERUSER,
                password=self.cluster.password,
                server=self.server.process.pid if self.server.process else 0,
                data=self.cluster.data,
                socket=self.server.socket,
                run_as=account.name if account.switched else "",
                bin=binaries,
                notes=self.provisioner.notes,
            )
            return True
        return False

    def _start(self, binaries: str, account: Account) -> Server:
        assert self.cluster is not None
        socket = self._path("s")
        os.makedirs(socket, mode=0o700, exist_ok=True)
        account.give(socket)
        server = Server(
            binaries=binaries,
            data=self.cluster.data,
            socket=socket,
            log=self._path(state_file.LOG),
            account=account,
            settings=self.job["settings"],
            serving=os.path.join(self.cluster.path, cluster.SERVING),
        )
        self.cluster.mark_running()
        server.start(port=self.port, timeout=self.job["start_timeout"])
        return server

    def _await_last_user(self) -> None:
        import fcntl

        held = self._path(state_file.HELD)
        try:
            users = os.open(self._path(state_file.USERS), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # the directory was removed
            self.events.put("unused")
            return
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)
            if not os.path.exists(held):
                # Keep the lock, so that new users wait until this process has ended.
                self.events.put("unused")
                return
            fcntl.flock(users, fcntl.LOCK_UN)
            while os.path.exists(held):
                time.sleep(0.1)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.events.put("stop")

    def _await_server(self) -> None:
        assert self.server is not None
        assert self.server.process is not None
        self.server.process.wait()
        self.events.put("died")

    def _housekeeping(self) -> None:
        """Fill the cache and remove the directories of killed supervisors, while no user waits."""
        try:
            if self.provisioner.pristine:
                cluster.publish_to_cache(self.provisioner.pristine, self.job["cache"])
        except (OSError, ProviderFailure):
            directories.remove(self.provisioner.pristine)
        from elefast.providers.local.cleanup import sweep

        sweep(self.provisioner.places, self.job["identity"])

    def _end(self) -> None:
        reuse: bool = self.job["reuse"]
        if self.server is not None and self.server.stop(orderly=reuse) and self.cluster is not None:
            self.cluster.mark_stopped()
        if self.provisioner.pristine:
            directories.remove(self.provisioner.pristine)
        if not reuse:
            self._leave_nothing()

    def _leave_nothing(self) -> None:
        named: str = self.job["data_dir"]
        if named:
            directories.remove(os.path.join(named, "cluster-once"))
            directories.release(named)
        if self.provisioner.own_disk:
            directories.remove(self.provisioner.own_disk)
        directories.remove(self.directory)
        for root in (self.provisioner.places.memory, self.provisioner.places.disk):
            if root:
                directories.remove_if_empty(root)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _report(self, status: str, **more: Any) -> None:
        names = ("identity", "config", "reuse", "version", "major", "origin")
        known = {name: self.job[name] for name in names}
        known["port"] = self.server.port if self.server else self.port
        known["at"] = time.time()
        known["namespaces"] = {kind: namespace(kind) for kind in ("pid", "net")}
        try:
            state_file.write(self.directory, known | {"status": status, "supervisor": os.getpid(), **more})
        except OSError:
            # The disk is full. Users notice the end of this process, even if they cannot read a reason.
            self.events.put("stop")

    def _explain(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            at = self.job["data_dir"] or (os.path.dirname(str(error.filename)) if error.filename else self.directory)
            return directories.full_disk(at)
        return f"the local server cannot be set up: {error}"


def main() -> int:
    """Read the job, take the lock, and go into the background.

    Returns:
        0 if the child has the lock, `BUSY` if another supervisor has it, 1 after an error, with the reason on stderr.
    """
    job = json.load(sys.stdin)
    directory: str = job["server"]
    # Private files get their mode when they are made. The server's user has to pass through root's directories.
    os.umask(0o022 if os.geteuid() == 0 else 0o077)
    os.chdir("/")
    try:
        lock = locks.take_soon(os.path.join(directory, state_file.SUPERVISOR))
        if lock is None:
            return BUSY
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, state_file.HELD))
    except FileNotFoundError:
        return BUSY
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        print(directories.full_disk(directory) if full else error, file=sys.stderr)
        return 1
    if os.fork():
        return 0
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    Supervisor(job).run()
    # sys.exit would wait for the threads. The locks end with the process.
    os._exit(0)

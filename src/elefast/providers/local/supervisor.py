"""The process that keeps a server: starts it, notices that it died or that nobody uses it, stops it.

A client starts ``keeper`` with a job on its standard input. It answers by its exit status once it holds
the ``keeper`` lock (or could not get it), and lives on in a child that belongs to no terminal. Whatever
happens to a client afterwards, also in the middle of a start, the keeper finishes what it began and then
sees that the user has gone. All that changes a server's directory is done here.

The child waits for three things: the exclusive side of ``users`` (nobody is left), the end of the server,
and SIGTERM (stop now). It imports only what it needs, because every cold start waits for it.
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
from elefast.providers.local.provision import Preparation, clear_rubbish
from elefast.providers.local.server import Server, log_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from elefast.providers.local.account import Account

__all__ = ["BUSY", "Keeper", "main"]

BUSY = 75
"""Exit status: somebody else keeps this directory, or it was replaced; look again."""


class Keeper:
    """The life of one server, from an empty or a left directory to its end.

    Args:
        job: What `LocalProvider` wrote: ``server`` (the directory), ``memory``, ``disk``, ``data_dir``,
            ``reuse``, ``run_as``, ``bin``, ``origin``, ``version``, ``major``, ``settings``,
            ``iterations``, ``cache``, ``identity``, ``config``, ``start_timeout``, ``port`` (where the server
            was the last time).
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.port: int = job["port"]
        self.directory: str = job["server"]
        self.preparation = Preparation(job)
        self.cluster: cluster.Cluster | None = None
        self.server: Server | None = None
        import queue

        self.events: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run(self) -> None:
        """Bring the server up, keep it, and end it."""
        signal.signal(signal.SIGTERM, self._on_signal)
        threading.Thread(target=self._await_last_user, daemon=True).start()
        started = self._bring_up()
        if started:
            threading.Thread(target=self._await_server, daemon=True).start()
            self._housekeeping()
        while self.events.get() == "died":
            self._tell("died", message=log_end(self._path(state_file.LOG)))
            assert self.cluster is not None
            stop_orphans(self.cluster.data)
        self._tell("stopping")
        self._end()

    # -- bringing it up -------------------------------------------------------------------------------

    def _bring_up(self) -> bool:
        try:
            clear_rubbish(self.directory)
            account, binaries = self.preparation.find_account()
            self.cluster = self.preparation.find_cluster(binaries, account)
            self.server = self._start(binaries, account)
        except ProviderFailure as error:
            self._tell("failed", kind=error.kind, message=error.message, code=error.code)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            code = "local-disk-full" if full else "local-start-failed"
            self._tell("failed", kind="ServerStartError", message=self._explain(error), code=code)
        except Exception:
            import traceback

            self._tell("failed", kind="ServerStartError", message=traceback.format_exc(), code="local-start-failed")
        else:
            self._tell(
                "ready",
                user=cluster.SUPERUSER,
                password=self.cluster.password,
                server=self.server.process.pid if self.server.process else 0,
                data=self.cluster.data,
                socket=self.server.socket,
                run_as=account.name if account.switched else "",
                bin=binaries,
                notes=self.preparation.notes,
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

    # -- keeping it -----------------------------------------------------------------------------------

    def _await_last_user(self) -> None:
        import fcntl

        held = self._path(state_file.HELD)
        try:
            users = os.open(self._path(state_file.USERS), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # somebody removed the whole directory
            self.events.put("unused")
            return
        while True:
            fcntl.flock(users, fcntl.LOCK_EX)
            if not os.path.exists(held):
                # Keep the lock: whoever comes now waits until we are gone.
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
        """What nobody has to wait for: the cache, and what was left by keepers that were killed."""
        try:
            if self.preparation.pristine:
                cluster.publish_to_cache(self.preparation.pristine, self.job["cache"])
        except (OSError, ProviderFailure):
            directories.remove(self.preparation.pristine)
        from elefast.providers.local.cleanup import sweep

        sweep(self.preparation.places, self.job["identity"])

    # -- ending it ------------------------------------------------------------------------------------

    def _end(self) -> None:
        reuse: bool = self.job["reuse"]
        if self.server is not None and self.server.stop(orderly=reuse) and self.cluster is not None:
            self.cluster.mark_stopped()
        if self.preparation.pristine:
            directories.remove(self.preparation.pristine)
        if not reuse:
            self._leave_nothing()

    def _leave_nothing(self) -> None:
        named: str = self.job["data_dir"]
        if named:
            directories.remove(os.path.join(named, "cluster-once"))
            directories.release(named)
        if self.preparation.own_disk:
            directories.remove(self.preparation.own_disk)
        directories.remove(self.directory)
        for root in (self.preparation.places.memory, self.preparation.places.disk):
            if root:
                directories.remove_if_empty(root)

    # -- small things ---------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _tell(self, status: str, **more: Any) -> None:
        names = ("identity", "config", "reuse", "version", "major", "origin")
        known = {name: self.job[name] for name in names}
        known["port"] = self.server.port if self.server else self.port
        known["at"] = time.time()
        known["namespaces"] = {kind: namespace(kind) for kind in ("pid", "net")}
        try:
            state_file.write(self.directory, known | {"status": status, "keeper": os.getpid(), **more})
        except OSError:
            # A full disk. Nobody would ever learn what we could not write; that we are gone they notice.
            self.events.put("stop")

    def _explain(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            at = self.job["data_dir"] or (os.path.dirname(str(error.filename)) if error.filename else self.directory)
            return directories.full_disk(at)
        return f"the local server cannot be set up: {error}"


def main() -> int:
    """Take the job and the lock, go into the background.

    Returns:
        0 when the child has the lock, `BUSY` when another keeper has it, 1 with the reason on stderr.
    """
    job = json.load(sys.stdin)
    directory: str = job["server"]
    # Whatever is private gets its mode when it is made; on root's way the server's user has to pass.
    os.umask(0o022 if os.geteuid() == 0 else 0o077)
    os.chdir("/")
    try:
        lock = locks.take_soon(os.path.join(directory, state_file.KEEPER))
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
    Keeper(job).run()
    # Not sys.exit: the waiting threads must not be waited for. The locks go with the process.
    os._exit(0)

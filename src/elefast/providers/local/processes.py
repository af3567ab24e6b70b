"""The operating system's processes of a server: their environment, and finding those without a supervisor.

A path does not identify a data directory, because another container may have the same path, and the host sees the
processes of all containers. A process counts as a server on a directory only if

- its working directory, which PostgreSQL sets to the data directory, has the directory's device and inode, and
- its process id is one of this process's own PID namespace, so that the id means the same process here and there.

A process that cannot be examined gets no signal.
This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from functools import partial

from elefast.runtime import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = [
    "boot_identity",
    "dies_with_parent",
    "environment",
    "namespace",
    "postmaster_file",
    "send_signal",
    "servers_of",
    "stop_orphans",
]

_PROGRAMS = ("postgres", ".postgres-wrapped")
"""The names of a server's executable; the second one is Nix's."""
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TZ")


def environment() -> dict[str, str]:
    """The environment of every program of PostgreSQL that elefast starts.

    It has no ``PG*`` variables and no secrets of the tests. Messages are in English, because elefast reads some.
    """
    kept = {name: value for name in _INHERITED if (value := os.environ.get(name))}
    return {"PATH": "/usr/bin:/bin", **kept, "LC_ALL": "C", "HOME": "/"}


def dies_with_parent(number: int) -> Callable[[], None] | None:
    """A function for ``preexec_fn``, after which the child gets a signal when this process ends.

    So a server never outlives its supervisor, even if the supervisor is killed.

    Args:
        number: The number of the signal.

    Returns:
        The function, or ``None`` if the system cannot do that.
    """
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    parent = os.getpid()

    def before_exec() -> None:
        prctl(1, number)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # the parent ended before the request
            os._exit(1)

    return before_exec


def boot_identity() -> str:
    """Identifies the boot of the machine; empty if the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "kern.bootsessionuuid")
    return ""


def postmaster_file(data: str) -> list[str]:
    """The lines of ``postmaster.pid``: pid, data directory, start time, port, ..., status as the eighth."""
    try:
        with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as file:
            return [line.strip() for line in file]
    except OSError:
        return []


def namespace(kind: str) -> str:
    """Identifies this process's namespace of a kind, ``pid`` or ``net``; empty if the system has none."""
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


def servers_of(data: str) -> list[int]:
    """The processes that provably are a server on this data directory, the backends of a dead postmaster among them."""
    try:
        directory = os.stat(data)
    except OSError:
        return []
    return [pid for pid in _candidates(data) if _serves(pid, directory)]


def send_signal(pid: int, number: int, still_it: Callable[[], bool]) -> None:
    """Send a signal to a process, unless another process has its id by now.

    Args:
        pid: The id of the process.
        number: The number of the signal.
        still_it: Whether the process with that id is the right one.
    """
    # The handle belongs to the process that has the id now. If the check that follows finds the right process, the
    # handle is that process's; and if that process ends, the signal reaches no process.
    handle = _handle(pid)
    try:
        if not still_it():
            return
        if handle is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        if handle is not None:
            os.close(handle)


def _handle(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # the process ended, or the kernel or a sandbox does not offer it
        return None


def _candidates(data: str) -> Iterator[int]:
    """Processes that may be servers, to be checked one by one."""
    if not os.path.isdir("/proc/self"):
        # Without /proc only the postmaster can be found.
        lines = postmaster_file(data)
        if lines and lines[0].isdigit():
            yield int(lines[0])
        return
    # The ids in the /proc of another PID namespace mean other processes.
    if os.readlink("/proc/self") != str(os.getpid()):
        return
    for name in os.listdir("/proc"):
        if name.isdigit() and "postgres" in _text(f"/proc/{name}/comm"):
            yield int(name)


def _serves(pid: int, directory: os.stat_result) -> bool:
    if not os.path.isdir("/proc/self"):
        return _serves_by_lsof(pid, directory)
    status = {line.partition(":")[0]: line.split()[1:] for line in _text(f"/proc/{pid}/status").splitlines()}
    # A process with ids in several namespaces is another container's.
    if len(status.get("NSpid", [])) != 1:
        return False
    try:
        return _works_in(pid, directory)
    except PermissionError:
        # Root without CAP_SYS_PTRACE, as in most containers, may not examine another user's process; that user may.
        uids, gids = status.get("Uid", []), status.get("Gid", [])
        if os.geteuid() or set(uids) != {str(directory.st_uid)} or len(set(gids)) != 1:
            return False
        try:
            with _file_access_of(int(uids[0]), int(gids[0])):
                return _works_in(pid, directory)
        except OSError:
            return False
    except OSError:
        return False


def _works_in(pid: int, directory: os.stat_result) -> bool:
    if not os.path.samestat(os.stat(f"/proc/{pid}/cwd"), directory):
        return False
    program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    return program.removesuffix(" (deleted)") in _PROGRAMS


@contextlib.contextmanager
def _file_access_of(uid: int, gid: int) -> Generator[None]:
    """Give this thread the file access of another user, also to ``/proc``."""
    import ctypes

    library = ctypes.CDLL(None)
    library.setfsgid(gid)
    library.setfsuid(uid)
    try:
        yield
    finally:
        library.setfsuid(os.geteuid())
        library.setfsgid(os.getegid())


def _serves_by_lsof(pid: int, directory: os.stat_result) -> bool:
    """Like `_serves`, by the device and the inode of the working directory that lsof shows."""
    import shutil

    program = shutil.which("lsof") or "/usr/sbin/lsof"
    # One field a line, after its letter: c is the command's name, D the device, i the inode.
    shown = _output(program, "-a", "-p", str(pid), "-d", "cwd", "-F", "cDi")
    fields = {line[:1]: line[1:] for line in shown.splitlines()}
    try:
        found = int(fields["D"], 16), int(fields["i"])
    except (KeyError, ValueError):
        return False
    return found == (directory.st_dev, directory.st_ino) and fields.get("c", "") in _PROGRAMS


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _output(*command: str) -> str:
    import subprocess

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def stop_orphans(data: str, patience: float = 5.0) -> bool:
    """End the server that runs on a data directory of elefast's without a supervisor.

    The caller has made sure that it has no supervisor: no other process holds the lock of the cluster.

    Args:
        data: The data directory.
        patience: Seconds to wait after each of two signals.

    Returns:
        Whether there was a server.
    """
    try:
        directory = os.stat(data)
    except OSError:
        return False
    found = servers_of(data)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        for pid in servers_of(data):
            send_signal(pid, number, partial(_serves, pid, directory))
        deadline = clock.now() + patience
        while servers_of(data) and clock.now() < deadline:
            time.sleep(0.005)
    return bool(found)

"""A data directory: ``initdb`` makes one per version, later ones are copies, and each is checked before it is used.

A *cluster* is a directory of elefast's with ``cluster.json`` and ``data``. It gets its name by a rename when it is
complete, so a directory with that name was complete once. The file ``running`` in it has the identity of the machine's
boot while its server runs, and the processes of the server lock ``serving``.
This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess

from elefast.providers.failure import ProviderFailure
from elefast.providers.files import directories
from elefast.providers.local import state_file
from elefast.providers.local.processes import boot_identity
from elefast.providers.scram import verifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from elefast.providers.local.account import Account

__all__ = ["SERVING", "SUPERUSER", "Cluster", "build", "load", "publish_to_cache"]

SUPERUSER = "postgres"
DESCRIPTION = "cluster.json"
RUNNING = "running"
SERVING = "serving"
FORMAT = 1


class Cluster:
    """A complete cluster.

    Args:
        path: The directory with ``cluster.json`` and ``data``.
        password: The superuser's password.
        major: The major version of its PostgreSQL.
    """

    def __init__(self, path: str, password: str, major: str) -> None:
        self.path = path
        self.data = os.path.join(path, "data")
        self.password = password
        self.major = major

    def mark_running(self) -> None:
        """Record the boot of the machine on which the server runs."""
        with open(os.path.join(self.path, RUNNING), "w", encoding="ascii") as file:
            file.write(boot_identity())

    def mark_stopped(self) -> None:
        """Record that the server stopped cleanly."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, RUNNING))

    def lost_power(self) -> bool:
        """Whether the machine went down while the server ran. Without fsync the data cannot be trusted then."""
        try:
            with open(os.path.join(self.path, RUNNING), encoding="ascii") as file:
                then = file.read()
        except OSError:
            return False
        return bool(then) and then != boot_identity()


def load(path: str) -> Cluster | None:
    """The cluster at `path`, or ``None`` if there is none or it is incomplete."""
    description = state_file.read(path, DESCRIPTION)
    password, major = description.get("password"), description.get("major")
    if not isinstance(password, str) or not isinstance(major, str):
        return None
    data = os.path.join(path, "data")
    for name in ("PG_VERSION", "postgresql.conf", "pg_hba.conf", os.path.join("global", "pg_control")):
        if not os.path.isfile(os.path.join(data, name)):
            return None
    return Cluster(path, password, major)


def build(
    parent: str, *, binaries: str, major: str, account: Account, iterations: int, cache: str, timeout: float
) -> str:
    """Make a complete cluster under a preliminary name in `parent`; the caller renames it.

    Args:
        parent: The directory for the new cluster.
        binaries: The directory of ``initdb``.
        major: The major version of PostgreSQL.
        account: The owner of the data.
        iterations: Rounds of hashing the superuser's password.
        cache: The path of a cluster to copy, if there is a complete one.
        timeout: Seconds that ``initdb`` may take.

    Raises:
        ProviderFailure: ``initdb`` failed.
        OSError: The cluster cannot be written; most likely the disk is full.
    """
    building = directories.building(parent)
    try:
        if load(cache):
            os.utime(cache)  # tells the cleanup that the cache is in use
            _copy(cache, building)
        else:
            _initdb(building, binaries, major, account, iterations, timeout)
        account.give(os.path.join(building, "data"))
    except BaseException:
        directories.remove(building)
        raise
    return building


def publish_to_cache(cluster: str, cache: str) -> None:
    """Move a cluster that no server has run on into the cache, for later copies.

    Args:
        cluster: The path of the cluster, which is removed.
        cache: The path in the cache.
    """
    if load(cache):
        directories.remove(cluster)
        return
    parent = directories.root(os.path.dirname(cache))
    directories.remove(cache)  # an incomplete one
    if os.stat(cluster).st_dev == os.stat(parent).st_dev:
        directories.publish(cluster, cache)
        return
    building = directories.building(parent)
    try:
        _copy(cluster, building)
        directories.publish(building, cache)
    except BaseException:
        directories.remove(building)
        raise
    finally:
        directories.remove(cluster)


def _copy(source: str, target: str) -> None:
    import shutil

    try:
        shutil.copytree(os.path.join(source, "data"), os.path.join(target, "data"), symlinks=True)
    except shutil.Error as error:
        # It has an error for each file; the first one is the cause.
        reason = str(error.args[0][0][2])
        full = os.strerror(errno.ENOSPC) in reason
        raise OSError(errno.ENOSPC if full else errno.EIO, reason, target) from None
    state_file.write(target, state_file.read(source, DESCRIPTION), DESCRIPTION)


def _initdb(target: str, binaries: str, major: str, account: Account, iterations: int, timeout: float) -> None:
    import secrets

    password = secrets.token_urlsafe(24)
    data = os.path.join(target, "data")
    os.mkdir(data, 0o700)
    # initdb gets the verifier that the server stores. The password is long and random, so that one round of hashing is
    # as safe as thousands, and connections are some milliseconds faster.
    file_name = os.path.join(target, "verifier")
    with open(os.open(file_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(verifier(password, iterations) + "\n")
    account.give(data)
    account.give(file_name)
    command = [
        os.path.join(binaries, "initdb"),
        *("-D", data, "-U", SUPERUSER, "-E", "UTF8", "-A", "scram-sha-256", "--pwfile", file_name),
        "--no-sync",
        *(["--no-instructions"] if int(major) >= 14 else []),
        *(["--set", "dynamic_shared_memory_type=mmap"] if int(major) >= 16 else []),
        *_locale(int(major)),
    ]
    try:
        done = account.run(command, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ProviderFailure(
            "ServerStartError",
            f"initdb did not end within {timeout:g} s in {target}\n"
            "see what keeps the machine or its disk busy, and run again",
            code="local-start-failed",
        ) from None
    finally:
        os.unlink(file_name)
    if done.returncode:
        tail = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-20:])
        full = os.strerror(errno.ENOSPC) in done.stdout
        hint = "\n" + directories.full_disk(target) if full else ""
        raise ProviderFailure(
            "ServerStartError",
            f"initdb failed ({' '.join(command[:3])} ...):\n{tail}{hint}",
            code="local-disk-full" if full else "local-start-failed",
        )
    state_file.write(target, {"format": FORMAT, "password": password, "major": major}, DESCRIPTION)


def _locale(major: int) -> list[str]:
    """Arguments for UTF-8 text that is sorted by code points, the same on all machines that have such a locale."""
    import locale

    for name in ("C.UTF-8", "en_US.UTF-8"):
        try:
            locale.setlocale(locale.LC_CTYPE, name)
        except locale.Error:
            continue
        finally:
            locale.setlocale(locale.LC_CTYPE, "C")
        arguments = ["--locale=C", f"--lc-ctype={name}"] if name != "C.UTF-8" else [f"--locale={name}"]
        break
    else:
        arguments = ["--locale=C"]
    if major >= 17:
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return arguments

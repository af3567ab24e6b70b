"""A data directory: made by ``initdb`` once per version, copied from then on, checked before it is used.

A *cluster* is a directory of ours with ``cluster.json`` and ``data``. It gets its name by a rename when it
is complete, so one that has its name was complete once. ``running`` in it has the identity of the machine's
boot while its server runs, and ``serving`` is locked by the server's processes.
Must stay light: the keeper imports it.
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
    """A complete data directory.

    Args:
        path: The directory with ``cluster.json`` and ``data``.
        password: The superuser's.
        major: The major version of PostgreSQL that made it.
    """

    def __init__(self, path: str, password: str, major: str) -> None:
        self.path = path
        self.data = os.path.join(path, "data")
        self.password = password
        self.major = major

    def mark_running(self) -> None:
        """Note on which boot of the machine the server runs."""
        with open(os.path.join(self.path, RUNNING), "w", encoding="ascii") as file:
            file.write(boot_identity())

    def mark_stopped(self) -> None:
        """Note that the server has stopped in an orderly way."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, RUNNING))

    def lost_power(self) -> bool:
        """Whether the machine went down under the running server: without fsync its files mean nothing."""
        try:
            with open(os.path.join(self.path, RUNNING), encoding="ascii") as file:
                then = file.read()
        except OSError:
            return False
        return bool(then) and then != boot_identity()


def load(path: str) -> Cluster | None:
    """The cluster at `path`, if there is one and it is complete."""
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
        cache: A cluster to copy where it exists; anything else in its place is ignored.
        iterations: SCRAM iterations of the superuser's password.
        timeout: Seconds that ``initdb`` may take.

    Raises:
        ProviderFailure: ``initdb`` failed.
        OSError: No space, most likely.
    """
    building = directories.building(parent)
    try:
        if load(cache):
            os.utime(cache)  # the sweep sees that somebody wants it
            _copy(cache, building)
        else:
            _initdb(building, binaries, major, account, iterations, timeout)
        account.give(os.path.join(building, "data"))
    except BaseException:
        directories.remove(building)
        raise
    return building


def publish_to_cache(cluster: str, cache: str) -> None:
    """Keep a cluster that no server has run on for later copies; the directory `cluster` goes away."""
    if load(cache):
        directories.remove(cluster)
        return
    parent = directories.root(os.path.dirname(cache))
    directories.remove(cache)  # what could not be loaded
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
        # It collects what happened to each file; the first reason is the one that counts.
        reason = str(error.args[0][0][2])
        full = os.strerror(errno.ENOSPC) in reason
        raise OSError(errno.ENOSPC if full else errno.EIO, reason, target) from None
    state_file.write(target, state_file.read(source, DESCRIPTION), DESCRIPTION)


def _initdb(target: str, binaries: str, major: str, account: Account, iterations: int, timeout: float) -> None:
    import secrets

    password = secrets.token_urlsafe(24)
    data = os.path.join(target, "data")
    os.mkdir(data, 0o700)
    # Not the password: what the server stores of it. It is long and random, so that one iteration is as
    # safe as thousands, and each connection saves the milliseconds that those take.
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
    """UTF-8 text, sorted by code points, the same on every machine that can do it."""
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

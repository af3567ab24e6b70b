"""The user of the operating system that the server runs as.

PostgreSQL refuses to run as root. If root runs the tests, the server runs as the user of `local.run_as`, or else as
``postgres`` or ``nobody``.
This module must stay light, because the supervisor imports it.
"""

from __future__ import annotations

import os
import signal
import subprocess

from elefast.providers.failure import ProviderFailure
from elefast.providers.local.processes import dies_with_parent, environment

__all__ = ["Account", "can_run", "candidates"]


class Account:
    """A user of the operating system.

    Args:
        name: The user's name.
        uid: The user's number.
        gid: The number of the user's group.
        switched: Whether it is another user than that of this process.
    """

    def __init__(self, name: str, uid: int, gid: int, *, switched: bool) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.switched = switched

    def run(self, command: list[str], *, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this user, in the directory ``/``. The program ends with this process.

        Args:
            command: The program and its arguments.
            timeout: Seconds.

        Returns:
            The result, with both streams of output in one.
        """
        return subprocess.run(
            command,
            cwd="/",
            env=environment(),
            user=self.uid if self.switched else None,
            group=self.gid if self.switched else None,
            extra_groups=[] if self.switched else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            preexec_fn=dies_with_parent(signal.SIGTERM),
        )

    def spawn(self, command: list[str], *, output: int, inherited: int = -1) -> subprocess.Popen[bytes]:
        """Start a program as this user, in the directory ``/``. It gets SIGINT when this process ends.

        Args:
            command: The program and its arguments.
            output: The file for both of its output streams.
            inherited: A descriptor that the program and its children keep open; -1 for none.
        """
        return subprocess.Popen(
            command,
            cwd="/",
            env=environment(),
            user=self.uid if self.switched else None,
            group=self.gid if self.switched else None,
            extra_groups=[] if self.switched else None,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=() if inherited < 0 else (inherited,),
            preexec_fn=dies_with_parent(signal.SIGINT),
        )

    def give(self, path: str) -> None:
        """Make this user the owner of `path` and everything in it, without following links."""
        if not self.switched:
            return
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
        for directory, directories, files in os.walk(path):
            for name in (*directories, *files):
                os.chown(os.path.join(directory, name), self.uid, self.gid, follow_symlinks=False)


def candidates(run_as: str) -> list[Account]:
    """The users to try, best first. Without root's rights that is only the user of this process.

    Args:
        run_as: The name of the only user to try as root; empty for the usual ones.

    Raises:
        ProviderFailure: The named user does not exist or is root, or there is no usual one.
    """
    if os.geteuid() != 0:
        return [Account(str(os.geteuid()), os.geteuid(), os.getegid(), switched=False)]
    import pwd

    found: list[Account] = []
    for name in [run_as] if run_as else ["postgres", "nobody"]:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            found.append(Account(name, entry.pw_uid, entry.pw_gid, switched=True))
    if found:
        return found
    if run_as:
        raise ProviderFailure(
            "ConfigurationError",
            f"local.run_as: {run_as!r} is not a user of this machine other than root; "
            "PostgreSQL does not run as root, expected the name of an ordinary user",
            code="wrong-value",
        )
    raise ProviderFailure(
        "ServerUnavailableError",
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as\n"
        "set local.run_as (ELEFAST_LOCAL__RUN_AS) to an ordinary user, or run the tests as one",
        code="no-server-account",
    )


def can_run(program: str, account: Account) -> str:
    """Why `account` cannot execute `program`, found out by executing it; empty if it can."""
    try:
        done = account.run([program, "--version"])
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stdout.strip() or f"exit status {done.returncode}")

"""Hosts on one machine: each a network namespace, with process ids, a name and directories of its own.

They reach nothing but this machine, over a bridge whose addresses are of those that are kept for measurements.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.providers.provider_support import until

__all__ = ["Host", "Network", "NotAllowedError", "Run"]


class NotAllowedError(Exception):
    """This machine does not let us make network namespaces."""


class Network:
    """A bridge of this machine, and hosts on it; all of it goes with `close`."""

    def __init__(self) -> None:
        number = secrets.randbelow(2**16)
        self._name = f"eft{secrets.token_hex(3)}"  # 15 letters at most for the name of a link
        self._subnet = f"198.{18 + number % 2}.{number // 2 % 256}"  # RFC 2544
        self.address = f"{self._subnet}.1"
        """Of this machine, as the hosts see it."""
        self.range = f"{self._subnet}.0/24"
        self._hosts: list[Host] = []
        if sys.platform != "linux" or os.geteuid() or not all(map(shutil.which, ("ip", "unshare"))):
            raise NotAllowedError("network namespaces need Linux, root, iproute2 and util-linux")
        try:
            _ip("link", "add", self._name, "type", "bridge")
            _ip("addr", "add", f"{self.address}/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
        except NotAllowedError:
            self.close()
            raise

    def host(self, name: str, home: Path) -> Host:
        """Another host.

        Args:
            name: Its host name.
            home: A directory for all that it writes; no other host has it.
        """
        letter = chr(ord("a") + len(self._hosts))
        host = Host(name, home, f"{self._name}{letter}", f"{self._subnet}.{len(self._hosts) + 2}")
        self._hosts.append(host)
        _ip("netns", "add", host.namespace)
        _ip("link", "add", host.namespace, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        _ip("link", "set", host.namespace, "master", self._name, "up")
        _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", host.namespace, "link", "set", link, "up")
        return host

    def close(self) -> None:
        """Remove the hosts and the bridge."""
        for host in self._hosts:
            host.kill()
            for what in (("netns", "del"), ("link", "del")):
                with suppress(NotAllowedError):  # the link went with the namespace, or never came to be
                    _ip(*what, host.namespace)
        with suppress(NotAllowedError):
            _ip("link", "del", self._name)

    @property
    def left(self) -> list[str]:
        """What is still there of it."""
        there = _ip("-brief", "link") + _ip("netns", "list")
        return [line for line in there.splitlines() if self._name in line]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Run:
    """A command on a host, that runs until it ends or its host is killed."""

    def __init__(self, command: list[str], directory: Path, env: Mapping[str, str], said: list[str]) -> None:
        self._said = said
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        self.process = subprocess.Popen(command, cwd=directory, env=dict(env), stdout=pipe, stderr=both, text=True)

    def end(self, seconds: float = 120) -> str:
        """What it wrote until its end.

        Raises:
            AssertionError: It did not end well.
        """
        try:
            text, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            text, _ = self.process.communicate()
        self._said.append(text)
        assert self.process.returncode == 0, text
        return text

    def kill(self) -> None:
        """End it and all that it started, at once."""
        self.process.kill()
        self._said.append(self.process.communicate()[0])


class Host:
    """A machine to whoever looks from inside of it; see `Network.host`."""

    def __init__(self, name: str, home: Path, namespace: str, address: str) -> None:
        self.name = name
        self.home = home
        self.namespace = namespace
        self.address = address
        self._runs: list[Run] = []
        self.said: list[str] = []
        """What its runs wrote."""
        for directory in ("tmp", "cache", "config", "data", "state"):
            (home / directory).mkdir(parents=True)

    def start(self, directory: Path, *command: str, **env: str) -> Run:
        """Start a command as the first process of a machine that just came up.

        Args:
            directory: Where it runs.
            command: With its arguments.
            env: What its environment has beside that of any machine.
        """
        # The first process of its namespace: with it, all others of the namespace go.
        inside = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        named = ["sh", "-c", 'hostname "$0" && exec "$@"', self.name, *command]
        run = Run(
            ["ip", "netns", "exec", self.namespace, *inside, *named], directory, {**self._env(), **env}, self.said
        )
        self._runs.append(run)
        return run

    def cut(self) -> None:
        """Take away its link and then kill all its processes: whoever they talked to hears nothing of their end."""
        _ip("link", "set", self.namespace, "down")
        self.kill()

    def join(self) -> None:
        """Give it its link again."""
        _ip("link", "set", self.namespace, "up")

    def kill(self) -> None:
        """Kill all its processes."""
        for run in self._runs:
            if run.process.returncode is None:
                run.kill()
        self._runs.clear()
        assert until(lambda: not _ip("netns", "pids", self.namespace).split(), 30)

    def files(self) -> list[Path]:
        """All that it has written."""
        return [path for path in self.home.rglob("*") if path.is_file() and not path.is_symlink()]

    def _env(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV") if name in os.environ}
        places = {
            "HOME": "",
            "TMPDIR": "tmp",
            "XDG_CACHE_HOME": "cache",
            "XDG_CONFIG_HOME": "config",
            "XDG_DATA_HOME": "data",
            "XDG_STATE_HOME": "state",
            "XDG_RUNTIME_DIR": "tmp",
        }
        return {**kept, **{name: str(self.home / place) for name, place in places.items()}}


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAllowedError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout

"""A PostgreSQL that the tests may stop, restart and set up as they like, at one address for as long as it lives."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL

from elefast.providers.local.account import Account, can_run, candidates
from tests.integration.providers.provider_support import installations, until

PASSWORD = "secret-of-faults"

_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


def free_port() -> int:
    """A port of loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A cluster of its own.

    Args:
        home: A directory for it; other users may enter it.
        like: Another one, stopped, whose data it begins with.
    """

    def __init__(self, home: Path, like: Server | None = None) -> None:
        self.data = home / "data"
        self.log = home / "log"
        self.port = free_port()
        self.account: Account
        self._bin: Path
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        if like is not None:
            self.account, self._bin = like.account, like._bin
            shutil.copytree(like.data, self.data)
        else:
            self.account, self._bin = _able(home)
            self._init(home)
        self.account.give(str(self.data))

    @property
    def url(self) -> URL:
        """As its superuser."""
        return URL.create("postgresql+psycopg", "postgres", PASSWORD, "127.0.0.1", self.port, "postgres")

    @property
    def text(self) -> str:
        """The URL as text, for configurations."""
        return self.url.render_as_string(hide_password=False)

    def start(self, wait: bool = True, **settings: object) -> None:
        """Start it; `settings` are for this time only."""
        options = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": self.port, **settings}.items()]
        with self.log.open("ab") as log:
            command = [str(self._bin / "postgres"), "-D", str(self.data), *options]
            self._process = self.account.spawn(command, output=log.fileno())
        if wait:
            assert until(self.answers, 60), self.log.read_text()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it; SIGQUIT is as after a crash, and the next start has to recover."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGQUIT, **settings: object) -> None:
        """Stop it and start it again."""
        self.stop(how)
        self.start(wait=True, **settings)

    def answers(self) -> bool:
        """Whether it lets its superuser in."""
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, **parts: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection, as the superuser where `parts` does not say otherwise."""
        url = self.url.set(drivername="postgresql", **parts)
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Run `query`; its rows, if it has any."""
        with self.connect() as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def names(self) -> set[str]:
        """The names of all databases that are not PostgreSQL's own."""
        return {name for (name,) in self.ask("select datname from pg_database where oid >= 16384")}

    def _init(self, home: Path) -> None:
        secret = home / "password"
        secret.write_text(PASSWORD)
        self.data.mkdir(mode=0o700)
        for path in (secret, self.data):
            self.account.give(str(path))
        done = self.account.run(
            [
                *(str(self._bin / "initdb"), "-D", str(self.data), "--no-sync", "--auth=scram-sha-256"),
                *("-U", "postgres", f"--pwfile={secret}", "--locale=C", "--encoding=UTF8"),
            ],
            timeout=120,
        )
        secret.unlink()
        assert done.returncode == 0, done.stdout


def _able(home: Path) -> tuple[Account, Path]:
    """An account that may run a server, and the programs that it can run: a copy in `home`, if need be."""
    given = os.environ.get("TEST_POSTGRES_BIN", "")
    places = [given] if given else [found.bin_dir for found in reversed(installations().values())]
    for place in places:
        for account in candidates(""):
            if not can_run(f"{place}/postgres", account):
                return account, Path(place)
    # As elefast itself does where only root may enter the virtual environment.
    for place in places:
        prefix = Path(place).parent
        copied = home / "programs" / prefix.parent.name
        shutil.copytree(prefix, copied / prefix.name, ignore=shutil.ignore_patterns("*.a", "include"))
        if (libraries := prefix.parent.with_name(f"{prefix.parent.name}.libs")).is_dir():
            shutil.copytree(libraries, copied.with_name(libraries.name))
        binaries = copied / prefix.name / Path(place).name
        for account in candidates(""):
            if not can_run(f"{binaries}/postgres", account):
                return account, binaries
    raise AssertionError(f"no user can run the programs in {places}")

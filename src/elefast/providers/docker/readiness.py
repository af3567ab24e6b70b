"""Waiting for the real server in a container, and making sure that it is the one that was asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from elefast.errors import ConfigurationError, Problem, ServerStartError
from elefast.postgres import libpq
from elefast.providers.docker.values import same
from elefast.providers.tuning import server_settings
from elefast.runtime import clock

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Access", "await_server"]

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.25
CONNECT_TIMEOUT = 2
REACHED = "set docker.host (ELEFAST_DOCKER__HOST) to where the engine's published ports are reached"
UNRESOLVED = re.compile(r"failed to resolve host|could not translate host name")
HOPELESS = re.compile(r"authentication failed|does not exist|no password supplied|no pg_hba.conf entry")


class Access:
    """How to connect to the server of a container.

    Args:
        host: Where its port is reached.
        port: The published one.
        user: The superuser.
        password: The superuser's.
        container: The container's name.
    """

    def __init__(self, host: str, port: int, user: str, password: str, container: str) -> None:
        self.container = container
        self.host = host
        self.port = port
        self.user = user
        self.password = password

    def open(self) -> Connection[tuple[Any, ...]]:
        """One connection, whatever the PG* variables of the tests say."""
        import psycopg

        parameters: dict[str, Any] = {**libpq.neutral(), "connect_timeout": CONNECT_TIMEOUT}
        with libpq.service_hidden():
            return psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname="postgres",
                autocommit=True,
                **parameters,
            )


def await_server(access: Access, settings: Mapping[str, str], *, look: Callable[[], None], timeout: float) -> str:
    """Connect as soon as the server lets us in, and check its settings; gives its version.

    A port that accepts connections says nothing: the engine's proxy does so before there is a server, and the
    server that the entrypoint runs first is not reached over TCP at all.

    Args:
        access: How to connect.
        settings: What it has to have.
        look: Called after each failure; raises where waiting is in vain, because the container has died.
        timeout: Seconds.

    Raises:
        ServerStartError: It will never let us in, or not in time.
        ConfigurationError: It has other settings.
    """
    import psycopg

    deadline = clock.now() + timeout
    pause = FIRST_PAUSE
    while True:
        try:
            with access.open() as connection:
                return _check_settings(connection, settings)
        except psycopg.OperationalError as error:
            said = " ".join(str(error).split())
        if HOPELESS.search(said):
            raise ServerStartError(
                f"the server in container {access.container} does not let us in: {said}\n"
                "its user or password was changed after the container was made; "
                "`elefast down` removes the container when nobody uses it",
                code="server-locked-out",
            )
        if UNRESOLVED.search(said):
            raise ServerStartError(
                f"the host {access.host} of the container's port is unknown here: {said}\n{REACHED}",
                code="container-unreachable",
            )
        look()
        if clock.now() > deadline:
            raise ServerStartError(
                f"the server in container {access.container} does not answer at {access.host}:{access.port} "
                f"after {timeout:g} s: {said}\n"
                f"`docker logs {access.container}` may say why; {REACHED}",
                code="container-unreachable",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _check_settings(connection: Connection[tuple[Any, ...]], wanted: Mapping[str, str]) -> str:
    """Compare every setting with what the server says, as an image or a role may override it; gives its version."""
    rows = connection.execute(
        "SELECT name, current_setting(name, true), setting, unit, vartype FROM pg_settings WHERE name = ANY(%s)",
        [[name.lower() for name in wanted]],
    ).fetchall()
    known = {row[0].lower(): row[1:] for row in rows}
    problems: list[Problem] = []
    for name, value in wanted.items():
        shown, setting, unit, kind = known.get(name.lower(), (None, None, None, "string"))
        if shown is None:
            row = connection.execute("SELECT current_setting(%s, true)", [name]).fetchone()
            shown = setting = row[0] if row else None
        if not same(value, setting or "", unit=unit or "", kind=kind):
            problems.append(
                Problem(
                    "",
                    _key(name),
                    f'is "{value}", but the server has "{shown}": the image or a role overrides it',
                    code="setting-overridden",
                )
            )
    if problems:
        raise ConfigurationError(problems, "leave these settings out, or look at what the image does")
    version = connection.info.parameter_status("server_version") or ""
    return version.partition(" ")[0]


def _key(name: str) -> str:
    own = "log_statements" if name == "log_statement" else name
    return f"tuning.{own}" if own in (server_settings.__kwdefaults__ or {}) else f"tuning.settings.{name}"

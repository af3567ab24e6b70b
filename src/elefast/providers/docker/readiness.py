"""Waiting for the server in a container, and checking that it has the settings that were asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from elefast.errors import ConfigurationError, Problem, ServerStartError
from elefast.postgres import libpq_variables
from elefast.providers.tuning import server_settings
from elefast.runtime import clock

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Access", "await_server", "same"]

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.25
CONNECT_TIMEOUT = 2
REACHED = "set docker.host (ELEFAST_DOCKER__HOST) to where the engine's published ports are reached"
UNRESOLVED = re.compile(r"failed to resolve host|could not translate host name")
HOPELESS = re.compile(r"authentication failed|does not exist|no password supplied|no pg_hba.conf entry")
WORDS = {"on": "on", "true": "on", "yes": "on", "1": "on", "off": "off", "false": "off", "no": "off", "0": "off"}
MEMORY = {"B": 1.0, "kB": 1024.0, "MB": 1024.0**2, "GB": 1024.0**3, "TB": 1024.0**4}
TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6, "d": 8.64e7}


class Access:
    """How to connect to the server of a container.

    Args:
        host: Where the published port is reached.
        port: The published port.
        user: The superuser.
        password: The superuser's password.
        container: The container's name.
    """

    def __init__(self, host: str, port: int, user: str, password: str, container: str) -> None:
        self.container = container
        self.host = host
        self.port = port
        self.user = user
        self.password = password

    def open(self) -> Connection[tuple[Any, ...]]:
        """Open a connection, independent of the ``PG*`` variables of the tests."""
        import psycopg

        parameters: dict[str, Any] = {**libpq_variables.overriding_parameters(), "connect_timeout": CONNECT_TIMEOUT}
        with libpq_variables.hide_pgservice():
            return psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname="postgres",
                autocommit=True,
                **parameters,
            )


def await_server(
    access: Access, settings: Mapping[str, str], *, check_alive: Callable[[], None], timeout: float
) -> str:
    """Connect as soon as the server accepts connections, and check its settings.

    An open port is not enough: the engine's proxy accepts connections before there is a server. The server that the
    image's entrypoint runs first does not listen on TCP.

    Args:
        access: How to connect.
        settings: The settings that the server must have.
        check_alive: Called after each failure; raises an error if the container has ended.
        timeout: Seconds.

    Returns:
        The version of the server.

    Raises:
        ServerStartError: The server will never accept this user, or it does not answer in time.
        ConfigurationError: The server has other settings.
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
                "`elefast down` removes the container when it is not in use",
                code="server-locked-out",
            )
        if UNRESOLVED.search(said):
            raise ServerStartError(
                f"the host {access.host} of the container's port is unknown here: {said}\n{REACHED}",
                code="container-unreachable",
            )
        check_alive()
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
    """Compare every setting with the server's, because an image or a role may override it; the server's version."""
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


def same(wanted: str, setting: str, *, unit: str, kind: str) -> bool:
    """Whether `wanted` and `setting` are the same value, as PostgreSQL reads them.

    Args:
        wanted: The value after ``-c``.
        setting: ``pg_settings.setting``, in units of `unit`.
        unit: ``8kB``, ``ms``; empty if the setting has none.
        kind: ``pg_settings.vartype``.
    """
    if kind in ("bool", "enum"):
        return _word(wanted) == _word(setting)
    if kind not in ("integer", "real"):
        return wanted == setting
    number = _number(wanted, unit)
    if number is None or number == -1:
        return True  # the server accepted it, and with -1 it chooses the value itself
    has = float(setting)
    return abs(number - has) <= (0.5 if kind == "integer" else 1e-6 * max(1.0, abs(has)))


def _word(text: str) -> str:
    lowered = text.lower()
    return WORDS.get(lowered, lowered)


def _number(text: str, unit: str) -> float | None:
    match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None:
        return None
    number, given = float(match[1]), match[2]
    if not given:
        return number
    base = re.fullmatch(r"([0-9]*)([A-Za-z]+)", unit)
    for scale in (MEMORY, TIME):
        if base and given in scale and base[2] in scale:
            return number * scale[given] / (scale[base[2]] * int(base[1] or 1))
    return None

"""The environment variables that libpq reads, such as ``PGHOST`` and ``PGSSLMODE``.

A shell that is set up for another server (``PGSSLMODE=require``, ``PGSERVICE=production``) would break or change
connections to a server that elefast has started. This module knows all of libpq's variables and keeps them away from
such connections: from elefast's own by connection parameters, from those of tests by removing the variables from the
process's environment. For programs that elefast starts it sets the variables that lead libpq to a database.

It connects to nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = [
    "VARIABLES",
    "HiddenVariables",
    "hidden_variables",
    "hide_pgservice",
    "libpq_environment",
    "overriding_parameters",
    "variables_in_effect",
]

_TARGET = frozenset(
    "PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGPASSFILE PGSERVICEFILE PGSYSCONFDIR PGLOCALEDIR".split()
)
"""The variables that have no effect on a connection whose parameters name host, port, user, password and database, and
no service."""

_OTHERS = frozenset(
    "PGHOSTADDR PGSERVICE PGOPTIONS PGAPPNAME PGCLIENTENCODING PGCONNECT_TIMEOUT PGCHANNELBINDING PGREQUIREAUTH "
    "PGSSLMODE PGREQUIRESSL PGSSLNEGOTIATION PGSSLCOMPRESSION PGSSLCERT PGSSLKEY PGSSLCERTMODE PGSSLROOTCERT PGSSLCRL "
    "PGSSLCRLDIR PGSSLSNI PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION PGSSLKEYLOGFILE PGREQUIREPEER "
    "PGGSSENCMODE PGKRBSRVNAME PGGSSLIB PGGSSDELEGATION PGREALM PGMINPROTOCOLVERSION PGMAXPROTOCOLVERSION "
    "PGTARGETSESSIONATTRS PGLOADBALANCEHOSTS PGDATESTYLE PGTZ PGGEQO PGTTY PGOAUTHCAFILE PGOAUTHDEBUG".split()
)

VARIABLES = _TARGET | _OTHERS
"""All variables that the libpq of PostgreSQL 14 to 19 reads. asyncpg reads some of them as well."""

# A connection parameter takes precedence over its variable. An empty value means the default, except for these: libpq
# refuses an empty value, or takes it as a requirement that no server meets.
_DEFAULTS = {
    "connect_timeout": "10",
    "sslcertmode": "allow",
    "require_auth": "password,md5,scram-sha-256,none",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
    "gssencmode": "disable",
}
# The URL of the server has these, and no parameter overrides "service".
_NOT_OVERRIDDEN = frozenset(("host", "port", "user", "password", "dbname", "service"))


@cache
def overriding_parameters() -> Mapping[str, Any]:
    """Connection parameters for psycopg that override libpq's variables with libpq's defaults.

    No parameter overrides ``PGSERVICE`` (see `hide_pgservice`), ``PGTZ``, ``PGDATESTYLE`` and ``PGGEQO``.
    """
    from psycopg import pq

    parameters: dict[str, Any] = {}
    for option in pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        if option.envvar and name not in _NOT_OVERRIDDEN:
            parameters[name] = _DEFAULTS.get(name, (option.compiled or b"").decode())
    return parameters


def variables_in_effect() -> dict[str, str]:
    """The variables of this process that affect even connections whose parameters name the server."""
    return {name: os.environ[name] for name in sorted(_OTHERS) if name in os.environ}


_pgservice_lock = threading.Lock()


@contextmanager
def hide_pgservice() -> Generator[None]:
    """Hide ``PGSERVICE`` from libpq, but not from ``os.environ``, while elefast opens a maintenance connection.

    libpq reads the definition of the service before it looks at parameters, and fails if there is none.
    """
    if "PGSERVICE" not in os.environ:
        yield
        return
    with _pgservice_lock:
        os.unsetenv("PGSERVICE")
        try:
            yield
        finally:
            # A test may have removed the variable in the meantime.
            if (value := os.environ.get("PGSERVICE")) is not None:
                os.putenv("PGSERVICE", value)


class HiddenVariables:
    """Removes libpq's variables from this process's environment while at least one caller holds it.

    Tests, applications under test and the programs that they start connect through any driver to a server that
    elefast has started. Variables that the shell has set for another server must not affect these connections.
    The variables in `_TARGET` stay, because an application may use them to reach a second server.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._values: dict[str, str] = {}

    def acquire(self, known: Mapping[str, str] | None = None) -> None:
        """Remove the variables, and hold them until `release`.

        Args:
            known: The variables to remove if they still have these values; None to remove all.
        """
        with self._lock:
            self._holders += 1
            for name, value in variables_in_effect().items():
                if known is None or known.get(name) == value:
                    self._values[name] = os.environ.pop(name)

    def release(self) -> None:
        """Let go. The last caller to do so restores the variables that have not been set in the meantime."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                for name, value in self._values.items():
                    os.environ.setdefault(name, value)
                self._values = {}


hidden_variables = HiddenVariables()
"""The only instance, since a process has one environment."""


# These variables would lead libpq to another server than the host, port and database that `libpq_environment` sets.
_REDIRECTING = ("PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS")

_CREDENTIALS = ("PGUSER", "PGPASSWORD")

# Options of a URL without which a connection may fail, and their variables.
_OPTION_VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "options": "PGOPTIONS",
}


def libpq_environment(
    url: URL, environment: Mapping[str, str], application_name: str, *, owned: bool = False
) -> dict[str, str]:
    """`environment` with the variables by which libpq and PostgreSQL's programs connect to the database of `url`.

    Where `url` has no user or no password, elefast itself takes them from ``PGUSER`` and ``PGPASSWORD``. Therefore
    these two keep their values then, and every other variable that `url` does not set is removed.

    Args:
        url: The URL of the database.
        environment: The environment of this process.
        application_name: The ``application_name`` of connections that do not set one.
        owned: Whether elefast has started the server. libpq's variables in `environment` are meant for another
            server then, and are all removed.
    """
    from elefast.postgres.urls import host_of, libpq_url, port_of

    plain = libpq_url(url)
    removed = VARIABLES if owned else _REDIRECTING
    result = {name: value for name, value in environment.items() if name not in removed}
    for name, value in (
        ("PGHOST", host_of(plain)),
        ("PGPORT", str(port_of(plain))),
        ("PGUSER", plain.username),
        ("PGPASSWORD", plain.password),
        ("PGDATABASE", plain.database),
        ("PGAPPNAME", application_name),
        *(
            (variable, plain.query.get(option))
            for option, variable in _OPTION_VARIABLES.items()
            if option in plain.query
        ),
    ):
        if value:
            result[name] = str(value)
        elif name not in _CREDENTIALS:
            result.pop(name, None)
    return result

"""The environment variables of libpq, and how elefast keeps them away from the servers that it starts.

A shell that is set up for another server (``PGSSLMODE=require``, ``PGSERVICE=production``) would break or change
connections to a server that elefast has started. It knows variables and connection parameters, and connects to nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["VARIABLES", "Hidden", "hidden", "neutral", "present", "service_hidden"]

_TARGET = frozenset(
    "PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGPASSFILE PGSERVICEFILE PGSYSCONFDIR PGLOCALEDIR".split()
)
"""Variables without effect on a connection that names its host, port, user, password and database, and no service."""

_OTHERS = frozenset(
    "PGHOSTADDR PGSERVICE PGOPTIONS PGAPPNAME PGCLIENTENCODING PGCONNECT_TIMEOUT PGCHANNELBINDING PGREQUIREAUTH "
    "PGSSLMODE PGREQUIRESSL PGSSLNEGOTIATION PGSSLCOMPRESSION PGSSLCERT PGSSLKEY PGSSLCERTMODE PGSSLROOTCERT PGSSLCRL "
    "PGSSLCRLDIR PGSSLSNI PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION PGSSLKEYLOGFILE PGREQUIREPEER "
    "PGGSSENCMODE PGKRBSRVNAME PGGSSLIB PGGSSDELEGATION PGREALM PGMINPROTOCOLVERSION PGMAXPROTOCOLVERSION "
    "PGTARGETSESSIONATTRS PGLOADBALANCEHOSTS PGDATESTYLE PGTZ PGGEQO PGTTY PGOAUTHCAFILE PGOAUTHDEBUG".split()
)

VARIABLES = _TARGET | _OTHERS
"""All variables that a libpq reads, of PostgreSQL 14 to 19. asyncpg reads some of them as well."""

# What a connection parameter says takes precedence over its variable. Most may be empty, which means the default;
# for these libpq takes an empty value for an error, or for a demand that nothing meets.
_NEUTRAL = {
    "connect_timeout": "10",
    "sslcertmode": "allow",
    "require_auth": "password,md5,scram-sha-256,none",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
    "gssencmode": "disable",
}
# What the URL of a server has, and what no parameter can override.
_NOT_NEUTRAL = frozenset(("host", "port", "user", "password", "dbname", "service"))


@cache
def neutral() -> Mapping[str, Any]:
    """Parameters of psycopg that override each libpq variable with libpq's default, as far as a parameter can.

    Only ``PGSERVICE``, ``PGTZ``, ``PGDATESTYLE`` and ``PGGEQO`` cannot be overridden.
    """
    from psycopg import pq

    parameters: dict[str, Any] = {}
    for option in pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        if option.envvar and name not in _NOT_NEUTRAL:
            parameters[name] = _NEUTRAL.get(name, (option.compiled or b"").decode())
    return parameters


def present() -> dict[str, str]:
    """The variables that are set now and have an effect even on connections that name their server."""
    return {name: os.environ[name] for name in sorted(_OTHERS) if name in os.environ}


_service = threading.Lock()


@contextmanager
def service_hidden() -> Generator[None]:
    """Hide ``PGSERVICE`` from libpq, but not from Python, while elefast opens a maintenance connection.

    libpq reads the service's definition first, so no parameter helps where there is none.
    """
    if "PGSERVICE" not in os.environ:
        yield
        return
    with _service:
        os.unsetenv("PGSERVICE")
        try:
            yield
        finally:
            # A test may have removed it meanwhile.
            if (value := os.environ.get("PGSERVICE")) is not None:
                os.putenv("PGSERVICE", value)


class Hidden:
    """Takes libpq's variables out of this process's environment, as long as anything holds it.

    Engines of tests, applications under test and programs that they start connect with URLs of a server that elefast
    has started, through any driver. They must not meet what the shell says of another server. The variables of
    `_TARGET` stay: an application may reach a second server by them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._values: dict[str, str] = {}

    def acquire(self, known: Mapping[str, str] | None = None) -> None:
        """Take the variables out.

        Args:
            known: The variables to take out, if they still have these values; None for all that there are.
        """
        with self._lock:
            self._holders += 1
            for name, value in present().items():
                if known is None or known.get(name) == value:
                    self._values[name] = os.environ.pop(name)

    def release(self) -> None:
        """Set those again that nothing has set meanwhile, once nothing holds it any more."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                for name, value in self._values.items():
                    os.environ.setdefault(name, value)
                self._values = {}


hidden = Hidden()
"""The one of this process."""

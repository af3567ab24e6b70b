"""Which host a connection would go to, and whether that is this machine; nothing is looked up in the DNS.

This module must not know settings: callers pass a URL, arguments of drivers, and environments.
"""

from __future__ import annotations

import ipaddress
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from elefast.runtime.text import one_line
from elefast.runtime.type_guards import is_list

__all__ = ["is_local", "named_in", "remote_host", "remote_in_arguments", "remote_in_environment"]

_OWN = ("localhost", "host.docker.internal")
# Nothing else: other readers of the URL take "evil.example#x.localhost" for another host.
_BELOW_LOCALHOST = re.compile(r"[a-z0-9._-]+\.localhost")
_ADDRESSES = ("hostaddr", "host", "unix_sock")
# Options that lead to hosts which are written elsewhere. None of these places is read here, so all are remote.
_ELSEWHERE = ("service", "servicefile", "dsn", "conninfo", "sock")


def remote_host(url: str) -> str:
    """The first host of this URL that is not this machine, or an empty string.

    Args:
        url: A URL that SQLAlchemy can read. Several hosts, and hosts in the query, are all looked at.
    """
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    for value in (parsed.host, *(parsed.query.get(name) for name in _ADDRESSES)):
        for text in (value,) if isinstance(value, str) or value is None else value:
            if remote := _first_remote(text or ""):
                return remote
    return _elsewhere(parsed.query)


def named_in(url: str) -> set[str]:
    """Which of host, port, user and password this URL names, so that no variable decides them.

    Args:
        url: A URL that SQLAlchemy can read.
    """
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    values = {
        "host": (parsed.host, *(parsed.query.get(name) for name in _ADDRESSES)),
        "port": (parsed.port, parsed.query.get("port"), parsed.query.get("unix_sock")),
        "user": (parsed.username, parsed.query.get("user")),
        "password": (parsed.password, parsed.query.get("password")),
    }
    return {part for part, given in values.items() if any(given)}


def remote_in_arguments(arguments: Mapping[str, Any]) -> str:
    """The first host among a driver's arguments that is not this machine, or an empty string."""
    for name in _ADDRESSES:
        value: Any = arguments.get(name)
        for one in value if is_list(value) else (value,):
            # Drivers convert other types to text: 167772161 is 10.0.0.1 as well.
            if one is not None and (remote := _first_remote(str(one))):
                return remote
    return _elsewhere(arguments)


def remote_in_environment(
    url: str, arguments: Sequence[Mapping[str, Any]], *environments: Mapping[str, str]
) -> tuple[str, str]:
    """The libpq variable that would send this URL elsewhere, and its host; empty strings if none does.

    Args:
        url: The URL.
        arguments: The drivers' arguments, which may undo what the URL names.
        environments: Where the variables may be.
    """
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    names = ["PGHOSTADDR"]
    if (not parsed.host and "host" not in parsed.query) or any(not given.get("host", "x") for given in arguments):
        names.append("PGHOST")
    for env in environments:
        for name in names:
            if remote := _first_remote(env.get(name, "")):
                return name, remote
        # Even if the URL has a host: the service may have an address, and libpq prefers that.
        if service := env.get("PGSERVICE", ""):
            return "PGSERVICE", _of("service", service)
    return "", ""


def is_local(host: str) -> bool:
    """Whether this host name, address or socket directory is on this machine."""
    name = host.strip().strip("[]").rstrip(".").lower()
    if not name or name[0] in "/@":  # a socket directory, or a socket in the abstract namespace
        return True
    if name in _OWN or _BELOW_LOCALHOST.fullmatch(name) or name in _names_of_this_machine():
        return True
    try:
        # With a zone it would be a name that anyone may own, and no address: 127.0.0.1%x.example.
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if getattr(address, "scope_id", None):
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _names_of_this_machine() -> set[str]:
    full = {name.rstrip(".").lower() for name in (socket.gethostname(), platform.node()) if name}
    return full | {name.partition(".")[0] for name in full}


def _first_remote(hosts: str) -> str:
    """The first remote one of a comma-separated list, each perhaps with a port, as `host` may hold it."""
    for host in hosts.split(","):
        name, colon, port = host.rpartition(":")
        if colon and port.isascii() and port.isdecimal() and ":" not in name:
            host = name
        if not is_local(host):
            return host
    return ""


def _elsewhere(options: Mapping[str, Any]) -> str:
    """The first option that can name any host in another place, in words."""
    for name, value in options.items():
        # Drivers join names and values for libpq, so that one name may become two options: "x=1 host".
        if value not in (None, "") and (name in _ELSEWHERE or not str(name).isidentifier()):
            return _of(str(name), value)
    return ""


def _of(name: str, value: Any) -> str:
    # The value of any other option may contain a password.
    return f"of {name} {one_line(str(value))}" if name in ("service", "servicefile") else f"of {one_line(name)}"

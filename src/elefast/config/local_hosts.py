"""Which host a connection would go to, and whether that is this machine; nothing is looked up in the DNS.

It must not know settings: it is given a URL, arguments of drivers, and environments.
"""

from __future__ import annotations

import ipaddress
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from elefast.runtime.text import short
from elefast.runtime.type_guards import is_list

__all__ = ["is_local", "named_in", "remote_host", "remote_in_arguments", "remote_in_environment"]

_OWN = ("localhost", "host.docker.internal")
# Nothing else: "evil.example#x.localhost" is another host to whoever reads the URL after us.
_BELOW_LOCALHOST = re.compile(r"[a-z0-9._-]+\.localhost")
_ADDRESSES = ("hostaddr", "host", "unix_sock")
# What leads to hosts that are written elsewhere; nothing of it is read here.
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
            # Drivers make text of what is none: 167772161 is 10.0.0.1 as well.
            if one is not None and (remote := _first_remote(str(one))):
                return remote
    return _elsewhere(arguments)


def remote_in_environment(
    url: str, arguments: Sequence[Mapping[str, Any]], *environments: Mapping[str, str]
) -> tuple[str, str]:
    """The libpq variable that would send this URL elsewhere, and its host; empty strings if none does.

    Args:
        url: The URL.
        arguments: Those of the drivers, which may take back what the URL says.
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
        # A host in the URL is no help: the service may have an address, which counts more.
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
        # A zone would be no part of an address but of a name, which anybody may own: 127.0.0.1%x.example.
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
    """The first option that can name any host in a place of its own, in words."""
    for name, value in options.items():
        # Drivers put names and values together for libpq, so that one name may be several: "x=1 host".
        if value not in (None, "") and (name in _ELSEWHERE or not str(name).isidentifier()):
            return _of(str(name), value)
    return ""


def _of(name: str, value: Any) -> str:
    # Others than these two may have a password in them.
    return f"of {name} {short(str(value))}" if name in ("service", "servicefile") else f"of {short(name)}"

"""Which host a connection would go to, and whether that is this machine; nothing is looked up in the DNS.

It must not know settings: it is given a URL, arguments of a driver, and the environment.
"""

from __future__ import annotations

import ipaddress
import platform
import socket
from collections.abc import Mapping
from typing import Any

from elefast.config.shapes import is_list

__all__ = ["is_local", "remote_host", "remote_in_arguments", "remote_in_environment"]

_OWN = ("localhost", "host.docker.internal")
_ADDRESSES = ("hostaddr", "host")


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
    return _service(parsed.query.get("service"))


def remote_in_arguments(arguments: Mapping[str, Any]) -> str:
    """The first host among a driver's arguments that is not this machine, or an empty string."""
    for name in _ADDRESSES:
        value: Any = arguments.get(name)
        for text in value if is_list(value) else (value,):
            if isinstance(text, str) and (remote := _first_remote(text)):
                return remote
    return _service(arguments.get("service"))


def remote_in_environment(url: str, env: Mapping[str, str]) -> tuple[str, str]:
    """The libpq variable that would send this URL elsewhere, and its host; empty strings if none does."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    names: list[str] = [] if "hostaddr" in parsed.query else ["PGHOSTADDR"]
    if not parsed.host and "host" not in parsed.query:
        names.append("PGHOST")
    for name in names:
        if remote := _first_remote(env.get(name, "")):
            return name, remote
    service = "" if parsed.host else _service(env.get("PGSERVICE"))
    return ("PGSERVICE", service) if service else ("", "")


def is_local(host: str) -> bool:
    """Whether this host name, address or socket directory is on this machine."""
    name = host.strip().strip("[]").rstrip(".").lower()
    if not name or name[0] in "/@":  # a socket directory, or a socket in the abstract namespace
        return True
    if name in _OWN or name.endswith(".localhost") or name in _names_of_this_machine():
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
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
        if colon and port.isdigit() and ":" not in name:
            host = name
        if not is_local(host):
            return host
    return ""


def _service(name: Any) -> str:
    """A service file can name any host; elefast does not read it."""
    return f"of service {name}" if name else ""

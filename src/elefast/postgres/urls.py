"""URLs of servers, translated between drivers and programs.

This module knows SQLAlchemy's URLs and the options of libpq and of the drivers. It connects to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, make_url

from elefast.runtime.redaction import REDACTED, is_secret

__all__ = [
    "as_url",
    "asyncpg_without_tls",
    "display_url",
    "dsn",
    "host_of",
    "libpq_options",
    "libpq_url",
    "port_of",
    "with_driver",
    "without_secrets",
]

_TRUTH = {"true": "1", "on": "1", "yes": "1", "1": "1", "false": "0", "off": "0", "no": "0", "0": "0"}
# libpq's options that asyncpg has as well, and asyncpg's names for them.
_ASYNCPG_OPTIONS = {"sslmode": "ssl", "host": "host", "port": "port"}
# Arguments that decide whether asyncpg asks for TLS, or that may lead to such a decision.
_ASYNCPG_SSL = frozenset(["direct_tls", "dsn", "service", "ssl"])


def as_url(target: Any) -> URL:
    """The URL of an engine (sync or async), a URL or a string.

    Raises:
        TypeError: `target` has another type.
        sqlalchemy.exc.ArgumentError: The string is not a URL.
    """
    if isinstance(target, str | URL):
        return make_url(target)
    url = getattr(target, "url", None)
    if isinstance(url, URL):
        return url
    raise TypeError(f"expected an Engine, a URL or a string such as postgresql://…, got {target!r}")


def display_url(url: URL) -> str:
    """`url` for display: with ``***`` for its password and for options that are secret."""
    redacted = url.update_query_dict(dict.fromkeys(_secret_options(url), REDACTED))
    return redacted.render_as_string(hide_password=True).replace(quote(REDACTED), REDACTED)


def without_secrets(url: URL) -> URL:
    """`url` without its password, and without options that are secret."""
    bare = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)
    return bare.difference_update_query(_secret_options(url))


def _secret_options(url: URL) -> list[str]:
    return [name for name in url.query if is_secret(name)]


def libpq_url(url: URL, database: str | None = None) -> URL:
    """`url` translated for psycopg.

    Options of other drivers are translated if libpq has an equivalent (``ssl`` of asyncpg, ``unix_sock`` of pg8000),
    and left out otherwise.

    Args:
        url: A URL for any driver.
        database: The database that replaces the URL's own; None to keep that.
    """
    query: dict[str, str | tuple[str, ...]] = {}
    host, port = url.host, url.port
    for name, value in url.query.items():
        text = value if isinstance(value, str) else value[-1]
        flag = _TRUTH.get(text.lower(), "")
        if name == "unix_sock":
            # pg8000 names the socket file, libpq its directory and the port that is part of its name.
            directory, _, file = text.rpartition("/")
            suffix = file.rpartition(".")[2]
            host, port = None, int(suffix) if suffix.isascii() and suffix.isdecimal() else port
            query["host"] = directory or "/"
        elif name == "ssl":
            query.setdefault("sslmode", {"1": "require", "0": "disable"}.get(flag, text))
        elif name == "direct_tls" and flag == "1":
            query.setdefault("sslnegotiation", "direct")
        elif name == "timeout":
            query.setdefault("connect_timeout", _seconds(text))
        elif name == "tcp_keepalive":
            query.setdefault("keepalives", flag or text)
        elif name in libpq_options():
            query[name] = value
    # These may also stand in the query. Move them to the place that every driver knows. The user and the password in
    # the query take precedence, as they do in the drivers.
    named, user, password = (_first(query.pop(name, None)) for name in ("dbname", "user", "password"))
    own = url.database or named
    return url.set(
        drivername="postgresql+psycopg",
        username=user or url.username,
        password=password or url.password,
        host=host,
        port=port,
        database=own if database is None else database,
        query=query,
    )


def with_driver(url: URL, drivername: str, database: str | None = None, *, written: URL | None = None) -> URL:
    """`url` translated for another driver. Options that the driver does not know are left out.

    Args:
        url: A URL for any driver.
        drivername: SQLAlchemy's name, such as ``postgresql+asyncpg``; plain ``postgresql`` stands for libpq.
        database: The database that replaces the URL's own; None to keep that.
        written: The URL that the user wrote. If it is for the same driver, the result keeps the options that only
            this driver knows.
    """
    plain = libpq_url(url, database)
    if written is not None and written.drivername == drivername:
        # SQLAlchemy redacts the password in its proper place, but not in the query.
        bare = written.difference_update_query(["password"])
        return bare.set(database=plain.database, password=plain.password)
    driver = drivername.partition("+")[2]
    query = dict(plain.query)
    if driver == "asyncpg":
        query = {_ASYNCPG_OPTIONS[key]: value for key, value in query.items() if key in _ASYNCPG_OPTIONS}
    elif driver == "pg8000":
        first = (_first(query.get("host")) or "").partition(",")[0]
        query = {}
        if first.startswith(("/", "@")):
            query = {"unix_sock": f"{first}/.s.PGSQL.{port_of(plain)}"}
        elif first:
            # pg8000 connects to one host. In the option, the port may stand behind it.
            name, _, port = first.rpartition(":") if first.count(":") == 1 else (first, "", "")
            plain = plain.set(host=name, port=int(port) if port.isdecimal() else port_of(plain))
    return plain.set(drivername=drivername, query=query)


def asyncpg_without_tls(url: URL, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`arguments` for a connection of asyncpg to a server that offers no TLS.

    By default asyncpg makes a TLS context for each connection and asks the server for TLS. That takes 1.1 of 5 ms
    (measured with asyncpg 0.32); psycopg asks within 0.1 ms.

    Args:
        url: The URL to connect to.
        arguments: The user's arguments for asyncpg. If they decide about TLS, they are returned as they are.
    """
    decided = _ASYNCPG_SSL & (url.query.keys() | arguments.keys()) or {"PGSSLMODE", "PGSERVICE"} & os.environ.keys()
    return dict(arguments) if decided else {"ssl": False, **arguments}


def dsn(url: URL) -> str:
    """`url` as a libpq connection URI with its password, for drivers without SQLAlchemy and for other programs."""
    # SQLAlchemy does not percent-encode all characters of the name of a database.
    plain = libpq_url(url)
    user = quote(plain.username or "", safe="")
    secret = f":{quote(str(plain.password), safe='')}" if plain.password is not None else ""
    host = plain.host or ""
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    port = f":{plain.port}" if plain.port else ""
    pairs = [
        f"{quote(key, safe='')}={quote(value, safe='')}"
        for key, values in plain.query.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    query = "?" + "&".join(pairs) if pairs else ""
    login = f"{user}{secret}@" if user else ""
    return f"postgresql://{login}{host}{port}/{quote(plain.database or '', safe='')}{query}"


def host_of(url: URL) -> str | None:
    """The host of `url`, or the directory of its socket; None if it has neither, so that libpq uses its default."""
    return url.host or _first(url.query.get("host"))


def port_of(url: URL) -> int:
    """The port of `url` as libpq determines it; the first one if there are several."""
    for text in (str(url.port or ""), _first(url.query.get("port")), os.environ.get("PGPORT")):
        port = (text or "").partition(",")[0]
        if port.isascii() and port.isdecimal():
            return int(port)
    return 5432


def _first(value: str | Sequence[str] | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value[0] if value else None


def _seconds(text: str) -> str:
    # libpq takes whole seconds, and 0 stands for no limit.
    try:
        return str(max(1, round(float(text))))
    except (ValueError, OverflowError):
        return text


@cache
def libpq_options() -> frozenset[str]:
    """The names of the options that psycopg's libpq knows."""
    from psycopg import pq

    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())

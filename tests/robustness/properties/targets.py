"""Where a connection would go, as each driver itself says it, without making one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import psycopg
from psycopg import conninfo, pq
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine

__all__ = ["REFUSALS", "targets"]

# Untyped, both of them.
_psycopg2_extensions: Any = import_module("psycopg2.extensions")
_connect_utils: Any = import_module("asyncpg.connect_utils")

REFUSALS: tuple[type[Exception], ...] = (
    ArgumentError,
    AttributeError,  # psycopg's, of a `conninfo` that is None
    TypeError,
    ValueError,  # asyncpg's errors of arguments are such, too
    psycopg.ProgrammingError,
    import_module("psycopg2").ProgrammingError,
)
"""What SQLAlchemy and the drivers raise of what they do not take."""


def targets(url: URL, connect_args: Mapping[str, Any], *, is_async: bool = False) -> list[str]:
    """Hosts, addresses and directories of sockets that an engine would try, in this process's environment.

    Args:
        url: With the driver.
        connect_args: As `create_engine` takes them.
        is_async: Which kind of engine.
    """
    engine = create_async_engine(url).sync_engine if is_async else create_engine(url)
    # As the pool does it.
    args, keywords = engine.dialect.create_connect_args(engine.url)
    given = {**keywords, **connect_args}
    match engine.dialect.driver:
        case "psycopg" | "psycopg_async":
            return _psycopg(*args, **given)
        case "psycopg2":
            return _psycopg2(*args, **given)
        case "asyncpg":
            return _asyncpg(*args, **given)
        case "pg8000":
            return _pg8000(*args, **given)
        case other:
            raise AssertionError(other)


def _psycopg(text: str = "", **given: Any) -> list[str]:
    parameters = inspect.signature(psycopg.Connection.connect).parameters
    own = {name for name in parameters if name not in ("conninfo", "kwargs")} | {"context"}
    text = given.pop("conninfo", text)
    options = {name: value for name, value in given.items() if name not in own}
    return list(_libpq(conninfo.conninfo_to_dict(text, **options)))


def _psycopg2(dsn: str | None = None, **given: Any) -> list[str]:
    dsn = given.pop("dsn", dsn)
    options = {name: value for name, value in given.items() if name not in ("connection_factory", "cursor_factory")}
    made = _psycopg2_extensions.make_dsn(dsn, **options)
    return list(_libpq(_psycopg2_extensions.parse_dsn(made)))


def _libpq(given: Mapping[str, Any]) -> Iterator[str]:
    """The rules of libpq: what is not given comes from the environment; an address counts more than a name."""
    known = {option.keyword.decode(): (option.val or b"").decode() for option in pq.Conninfo.get_defaults()}
    found = {**known, **{name: str(value) for name, value in given.items() if value is not None}}
    if found.get("service"):
        yield f"service={found['service']}"
    hosts, addresses = found.get("host", "").split(","), found.get("hostaddr", "").split(",")
    for number in range(max(len(hosts), len(addresses))):
        address = addresses[number] if number < len(addresses) else ""
        yield address or (hosts[number] if number < len(hosts) else "")


def _asyncpg(dsn: str | None = None, **given: Any) -> list[str]:
    signature = inspect.signature(_connect_utils._parse_connect_dsn_and_args)
    options: dict[str, Any] = dict.fromkeys(signature.parameters)
    options |= {name: value for name, value in given.items() if name in options}
    options["dsn"] = given.get("dsn", dsn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a password file that is none
        addresses, *_ = _connect_utils._parse_connect_dsn_and_args(**options)
    return [address if isinstance(address, str) else str(address[0]) for address in addresses]


def _pg8000(**given: Any) -> list[str]:
    if given.get("sock") is not None:
        return [f"sock={given['sock']}"]
    if given.get("unix_sock") is not None:
        return [str(given["unix_sock"])]
    return [str(given.get("host", "localhost"))]
